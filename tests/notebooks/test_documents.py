"""The documents name what there is: parameters, families, columns, plots; examples are valid."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from toolkit import frames, plots
from toolkit.completion.request import Dialect
from toolkit.completion.request.fields import parameter_names
from toolkit.experiments.declaration import read_declaration
from toolkit.models.families import FAMILIES

DOCS = Path(__file__).parents[2] / "docs"


def text(name: str) -> str:
    return (DOCS / name).read_text(encoding="utf-8")


@pytest.mark.parametrize("dialect", [Dialect.PYTHON, Dialect.STRICT])
def test_every_parameter_is_explained(dialect: Dialect):
    page = text("parameters.md")
    headings = " ".join(re.findall(r"^### (.*)", page, re.MULTILINE))
    named = set(re.findall(r"`(\w+)`", page)) | set(re.findall(r"\w+", headings))
    assert set(parameter_names(dialect)) <= named


def test_every_family_is_listed_and_no_other():
    table = text("models.md").split("## Families")[1].split("\n## ")[0]
    cells = re.findall(r"^\| (`.*?) \|", table, re.MULTILINE)
    listed = [kind for cell in cells for kind in re.findall(r"`(\w+)`", cell)]
    assert sorted(listed) == sorted(["model_type", *FAMILIES])


def test_every_column_and_plot_is_listed():
    page = text("logprobs-and-frames.md")
    listed = set(re.findall(r"\w+", page))
    columns = {name for schema in frames.SCHEMAS.values() for name in schema}
    assert {name for name in columns if not name.startswith("param.")} <= listed
    assert set(plots.__all__) <= set(re.findall(r"^\| `(\w+)` \|", page, re.MULTILINE))


def test_the_example_of_an_experiment_is_a_declaration(tmp_path: Path):
    (example,) = re.findall(r"```yaml\n(.*?)```", text("experiments.md"), re.DOTALL)
    path = tmp_path / "experiment.yaml"
    path.write_text(example, encoding="utf-8")
    declared = read_declaration(path)
    assert declared.grid == {"temperature": [0, 0.5, 1], "top_p": [0.9, 1]}
    assert declared.seeds == [0, 1, 2]


def test_pictures_are_light_and_shown_somewhere():
    paths = [*DOCS.rglob("*.md"), DOCS.parent / "README.md"]
    pages = "\n".join(path.read_text(encoding="utf-8") for path in paths)
    pictures = list((DOCS / "pictures").glob("*.png"))
    assert pictures
    for path in pictures:
        assert path.stat().st_size < 100_000, path.name
        assert f"pictures/{path.name}" in pages, path.name
