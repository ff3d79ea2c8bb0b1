"""The pictures of the front door, taken from what a reader sees."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Locator, expect

from tests.browser.notebook import Notebook, written
from tests.browser.widget import Widget

pytestmark = [pytest.mark.browser, pytest.mark.timeout(1800)]

LARGEST = 100_000
"""Bytes of a picture."""
COLOURS = 64
LOAD = """import toolkit as tk

lm = tk.load()"""
EXPLORE = """tk.explore(
    lm, "The best thing about living by the sea is the", temperature=0.8, top_p=0.4, seed=3
)"""
SIZE = {"width": 1400, "height": 1400}
COMPLETE = """r = lm.complete(
    "The capital of France is", max_tokens=32, temperature=0.8, logprobs=5, details=True, seed=7
)
r"""
SURPRISAL = "tk.plots.surprisal(tk.frames.tokens(r))"
COMPARE = """tk.compare_samples(
    lm, "The sea was", {"temperature": [0.3, 0.7, 1.1]}, n=2, max_tokens=24
)"""


@pytest.fixture(scope="module")
def notebook(opened: Callable[[str, Any], Notebook]) -> Notebook:
    """A notebook with the embedded model."""
    made = opened("pictures.ipynb", written(LOAD))
    made.page.set_viewport_size(SIZE)
    made.run_all()
    return made


def take(cell: Locator, file: Path, *, part: str = "") -> None:
    """A picture of what a cell shows, as light as a document's should be and not empty."""
    cell.page.mouse.move(0, 0)
    cell.scroll_into_view_if_needed()
    what = cell.locator(f".jp-OutputArea-output {part}").last
    what.screenshot(path=file, animations="disabled", caret="hide")
    with Image.open(file) as taken:
        picture = taken.convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE)
    picture.save(file, optimize=True)
    shades = np.asarray(picture.convert("L"))
    assert picture.width > 800 and picture.height > 150, (file.name, picture.size)
    assert np.ptp(shades) > 150, f"{file.name}: text cannot be read"
    assert file.stat().st_size < LARGEST, file.name


def test_explorer(notebook: Notebook, pictures: Path, tmp_path: Path):
    notebook.theme("Light")
    widget = Widget(notebook.run(EXPLORE))
    for step in range(1, 7):
        widget.button("sample 1").click()
        expect(widget.picture).to_contain_text(f"step {step}:")
    for step in reversed(range(6)):
        widget.button("←").click()
        expect(widget.picture).to_contain_text(f"step {step}:")
    box, page = widget.cell.bounding_box(), widget.page.locator(".jp-NotebookPanel").bounding_box()
    assert box and page and box["height"] < page["height"], "it is cut off below"
    take(widget.cell, pictures / "explorer.png")
    notebook.theme("Dark")
    take(widget.cell, tmp_path / "explorer_dark.png")


def test_completion_with_its_heat_map_and_a_plot(
    notebook: Notebook, pictures: Path, tmp_path: Path
):
    notebook.theme("Light")
    cell = notebook.run(COMPLETE)
    take(cell, pictures / "completion.png")
    plot = notebook.run(SURPRISAL)
    take(plot, pictures / "surprisal.png", part="img")
    notebook.theme("Dark")
    take(cell, tmp_path / "completion_dark.png")
    take(plot, tmp_path / "surprisal_dark.png", part="img")


def test_comparison(notebook: Notebook, tmp_path: Path):
    notebook.theme("Light")
    widget = Widget(notebook.run(COMPARE))
    expect(widget.cell.get_by_text(re.compile("^3 of 3 columns$"))).to_be_visible()
    take(widget.cell, tmp_path / "comparison.png")
    notebook.theme("Dark")
    take(widget.cell, tmp_path / "comparison_dark.png")
