"""Stop while cells are drawn: columns of samples, and a sweep that holds the notebook."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import expect

from tests.browser.notebook import Notebook, written
from tests.browser.widget import Widget

pytestmark = [pytest.mark.browser, pytest.mark.timeout(1800)]

LOAD = """import toolkit as tk

lm = tk.load(max_batch=4)
NEVER_ENDS = {token: -100 for token in lm.tokenizer.eos_ids}
TEMPERATURES = [0.1 * step for step in range(1, 13)]"""
COMPARE = """c = tk.compare_samples(
    lm, "The sea", {"temperature": TEMPERATURES}, max_tokens=64, logit_bias=NEVER_ENDS
)
c"""
SWEEP = """run = tk.sweep(
    lm, ["The sea"], grid={"temperature": TEMPERATURES}, out="runs/stopped", seeds=range(8),
    max_tokens=64, logit_bias=NEVER_ENDS,
)"""


@pytest.fixture(scope="module")
def notebook(opened: Callable[[str, Any], Notebook]) -> Notebook:
    """A notebook with the embedded model."""
    made = opened("comparison.ipynb", written(LOAD))
    made.run_all()
    assert made.outputs(0) == []
    return made


def columns(widget: Widget) -> int:
    """Columns that are drawn, as the widget counts them."""
    count = widget.cell.get_by_text(re.compile(r"^\d+ of 12 columns$")).inner_text()
    return int(count.split()[0])


def test_stop_keeps_the_columns_and_run_goes_on(notebook: Notebook):
    widget = Widget(notebook.run(COMPARE))
    start, stop = widget.button("Run"), widget.button("Stop")
    expect(widget.cell.get_by_text(re.compile(r"^[1-9]\d* of 12 columns$"))).to_be_visible()
    stop.click()
    expect(stop).to_be_disabled()
    expect(start).to_be_enabled()
    kept = columns(widget)
    assert 0 < kept < 12
    notebook.run("c.wait()")
    assert notebook.value("sum(answer is not None for answer in c.answers)") == kept

    assert (
        notebook.value("lm.complete('The sea', max_tokens=2).record.usage.completion_tokens") == 2
    )
    start.click()
    expect(widget.cell.get_by_text("12 of 12 columns")).to_be_visible()
    expect(start).to_be_disabled()
    expect(stop).to_be_disabled()


def test_stop_ends_a_sweep_that_holds_the_cell(notebook: Notebook):
    widget = Widget(notebook.start(SWEEP))
    stop = widget.button("Stop")
    expect(stop).to_be_enabled()
    expect(widget.cell.get_by_text(re.compile(r"[1-9]\d*/96"))).to_be_visible()
    stop.click()
    notebook.ended()
    done = notebook.value("len(run.requests)")
    assert 0 < done < 96
    expect(stop).to_have_count(0)  # nothing is left to stop
    assert (
        notebook.value("lm.complete('The sea', max_tokens=2).record.usage.completion_tokens") == 2
    )
