"""The pictures of the front door, taken from what a reader sees."""

from __future__ import annotations

import re
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Locator, expect

from tests.browser.notebook import Notebook, written
from tests.browser.widget import Widget

pytestmark = [pytest.mark.browser, pytest.mark.timeout(1800)]

LARGEST = 150_000
"""Bytes of a picture."""
LOAD = "import toolkit as tk\n\nlm = tk.load()"
EXPLORE = 'tk.explore(lm, "The capital of France is", temperature=0.8, top_p=0.9)'
COMPLETE = """lm.complete(
    "The capital of France is", max_tokens=32, temperature=0.8, logprobs=5, details=True, seed=7
)"""
COMPARE = """tk.compare_samples(
    lm, "The sea was", {"temperature": [0.3, 0.7, 1.1]}, n=2, max_tokens=24
)"""


@pytest.fixture(scope="module")
def notebook(opened: Callable[[str, Any], Notebook]) -> Notebook:
    """A notebook with the embedded model."""
    made = opened("pictures.ipynb", written(LOAD))
    made.run_all()
    return made


def take(what: Locator, file: Path) -> None:
    """A picture of an element, as light as a document's should be."""
    what.page.mouse.move(0, 0)
    what.screenshot(path=file, animations="disabled", caret="hide")
    data = file.read_bytes()
    width, height = struct.unpack(">II", data[16:24])
    assert width > 900 and height > 150, (file.name, width, height)
    assert len(data) < LARGEST, file.name


def test_explorer_in_light_and_dark(notebook: Notebook, pictures: Path):
    widget = Widget(notebook.run(EXPLORE))
    for _ in range(3):
        widget.button("sample 1").click()
    expect(widget.picture).to_contain_text("step 3:")
    output = widget.cell.locator(".jp-OutputArea-output").last
    for theme in ("Dark", "Light"):
        notebook.theme(theme)
        take(output, pictures / ("explorer.png" if theme == "Light" else "explorer_dark.png"))


def test_completion_with_its_heat_map(notebook: Notebook, pictures: Path):
    cell = notebook.run(COMPLETE)
    take(cell.locator(".jp-OutputArea-output").last, pictures / "completion.png")


def test_comparison(notebook: Notebook, pictures: Path):
    widget = Widget(notebook.run(COMPARE))
    expect(widget.cell.get_by_text(re.compile("^3 of 3 columns$"))).to_be_visible()
    take(widget.cell.locator(".jp-OutputArea-output").last, pictures / "comparison.png")
