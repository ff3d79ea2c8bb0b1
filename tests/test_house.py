"""The repository agrees with itself: dependencies in three places, links, names, versions."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import toolkit

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
LOCK = (ROOT / "requirements.lock").read_text(encoding="utf-8").splitlines()
DOCUMENTS = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]

CONDA_NAMES = {"matplotlib-base": "matplotlib"}
"""conda-forge's name -> the registry's, where more than `-` and `_` differ."""


def ranges(lines: list[str]) -> dict[str, str]:
    """Name -> version range, both in canonical form."""
    requirements = [Requirement(line) for line in lines]
    return {canonicalize_name(r.name): str(r.specifier) for r in requirements}


def test_environment_has_every_core_and_notebook_dependency_with_the_same_range():
    entries = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))["dependencies"]
    conda = ranges([entry for entry in entries if isinstance(entry, str)])
    (pip,) = [entry["pip"] for entry in entries if isinstance(entry, dict)]
    assert pip[-1] == "-e ."
    found = {CONDA_NAMES.get(name, name): value for name, value in conda.items()} | ranges(pip[:-1])

    assert found.pop("python") == PROJECT["requires-python"]
    notebooks = PROJECT["optional-dependencies"]["notebooks"]
    assert found == ranges(PROJECT["dependencies"] + notebooks)


def test_lock_pins_exactly_and_holds_no_address():
    for line in LOCK:
        pin, _, _ = line.partition(" ; ")
        assert re.fullmatch(r"[a-z0-9-]+==[0-9][0-9a-z.]*", pin), line


@pytest.mark.parametrize("python", ["3.11", "3.12", "3.13"])
def test_lock_satisfies_the_ranges(python: str):
    environment = {"python_version": python, "python_full_version": f"{python}.9"}
    pins = {}
    for requirement in map(Requirement, LOCK):
        if requirement.marker is None or requirement.marker.evaluate(environment):
            (pin,) = requirement.specifier
            pins[requirement.name] = pin.version

    extras = PROJECT["optional-dependencies"]
    for line in PROJECT["dependencies"] + extras["dev"] + extras["notebooks"]:
        wanted = Requirement(line)
        assert wanted.specifier.contains(pins[canonicalize_name(wanted.name)]), line
    assert "torch" not in pins


def test_versions_agree():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert toolkit.__version__ == PROJECT["version"] == citation["version"]


def test_public_names_are_sorted_and_importable():
    # As ruff sorts: CONSTANTS, Classes, functions.
    order = sorted(set(toolkit.__all__), key=lambda n: (not n.isupper(), not n[0].isupper(), n))
    assert list(toolkit.__all__) == order
    for name in toolkit.__all__:
        assert getattr(toolkit, name) is not None


def test_makefile_fits_one_screen_and_has_each_target_that_the_documents_name():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert len(makefile.splitlines()) <= 40
    lines = re.findall(r"^([a-z][a-z -]*):", makefile, re.MULTILINE)
    targets = {target for line in lines for target in line.split()}
    for document in [*DOCUMENTS, ROOT / ".ci/run"]:
        named = set(
            re.findall(r"(?:^|`)make ([a-z-]+)", document.read_text(encoding="utf-8"), re.M)
        )
        assert named <= targets, document.name


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_between_files_resolve(document: Path):
    links = re.findall(r"\]\(([^)#\s]+)[^)]*\)", document.read_text(encoding="utf-8"))
    for link in links:
        assert link.startswith("https://") or (document.parent / link).exists(), link


def test_contract_exists_and_the_front_door_leads_to_it():
    assert (ROOT / "docs/contract.md").is_file()
    assert "(docs/contract.md)" in (ROOT / "README.md").read_text(encoding="utf-8")


def test_tree_in_the_readme_is_the_tree():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    (tree,) = re.findall(r"```text\n(.*?)```", readme, re.DOTALL)
    listed, folders = set(), []
    for line in tree.splitlines():
        name = line.split()[0]
        depth = (len(line) - len(line.lstrip())) // 2
        folders[depth:] = [name]
        path = ROOT.joinpath(*folders)
        assert path.exists(), f"{'/'.join(folders)} is in the README's tree and not on disk"
        listed.add(path)
    rooms = {path.parent for path in (ROOT / "toolkit").glob("*/__init__.py")}
    assert rooms <= listed, "rooms without a line in the README's tree"
