"""The explorer in a real browser: the keyboard moves sliders, and the numbers follow."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import expect

from tests.browser.notebook import Notebook, written
from tests.browser.widget import Widget

pytestmark = [pytest.mark.browser, pytest.mark.timeout(1800)]

LOAD = """import toolkit as tk

lm = tk.load()
NEVER_ENDS = {token: -100 for token in lm.tokenizer.eos_ids}"""
PROMPT = "The capital of France is"
PRESSES = 24
SLOW = 2000
"""Milliseconds that the median press may take on a busy machine; a quiet one needs about 100."""


@pytest.fixture(scope="module")
def notebook(opened: Callable[[str, Any], Notebook]) -> Notebook:
    """A notebook with the embedded model."""
    made = opened("explorer.ipynb", written(LOAD))
    made.run_all()
    assert made.outputs(0) == []
    return made


@pytest.fixture
def widget(notebook: Notebook) -> Iterator[Widget]:
    """A fresh explorer, the variable `e` of the kernel."""
    cell = notebook.run(f"e = tk.explore(lm, {PROMPT!r})\ne")
    yield Widget(cell)
    notebook.run("e.worker.stop(); e.wait(); e.box.close()")


def entropy(notebook: Notebook, **parameters: Any) -> str:
    """Of what the jitted sampler draws from, in bits, as the explorer writes it."""
    asked = {"max_tokens": 1, "logprobs": 0, "details": True, **parameters}
    token = f"lm.complete({PROMPT!r}, **{asked}).record.choices[0].tokens[0]"
    return f"{notebook.value(f'{token}.sampling_entropy') / math.log(2):.2f}"


def test_temperature_moves_with_the_arrows(widget: Widget, notebook: Notebook):
    neutral = widget.number("entropy, bits", 0).inner_text()
    expect(widget.number("entropy, bits", 1)).to_have_text(neutral)

    widget.press("temperature", "ArrowLeft", times=10)
    expect(widget.readout("temperature")).to_have_text("0.50")
    expect(widget.number("entropy, bits", 1)).to_have_text(entropy(notebook, temperature=0.5))
    expect(widget.number("entropy, bits", 0)).to_have_text(neutral)
    assert notebook.value("e.params") == {"temperature": 0.5, "seed": 0, "max_tokens": 32}
