"""The front door: what it shows can be typed, and runs."""

from __future__ import annotations

import re
import shlex
import tomllib
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
LONGEST = 240
"""Lines, so that it stays a door."""


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def test_python_runs_from_the_first_block_to_the_last(
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    monkeypatch.chdir(tmp_path)  # one of them saves a figure
    names: dict[str, Any] = {}
    try:
        for number, block in enumerate(blocks("python"), start=1):
            exec(compile(block, f"<block {number} of README.md>", "exec"), names)
    finally:
        if "lm" in names:
            names["lm"].close()
    assert "Paris" in capsys.readouterr().out
    assert names["df"]["token"].iloc[0] == " Paris"
    assert (tmp_path / "surprisal.pdf").stat().st_size > 1000


def test_the_first_block_has_ten_lines_or_so():
    assert len(blocks("python")[0].strip().splitlines()) <= 11


def test_shell_blocks_name_what_there_is():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    shell = "".join(blocks("sh"))
    for extra in re.findall(r"\.\[(\w+)\]", shell):
        assert extra in project["optional-dependencies"]
    commands = {shlex.split(line, comments=True)[0] for line in shell.splitlines() if line.strip()}
    assert commands <= {"make", ".venv/bin/pip"}


def test_it_stays_short_and_shows_pictures():
    assert len(README.splitlines()) <= LONGEST
    shown = re.findall(r"!\[[^\]]+\]\(docs/pictures/(\w+)\.png\)", README)
    assert {"explorer", "completion", "surprisal"} <= set(shown)
