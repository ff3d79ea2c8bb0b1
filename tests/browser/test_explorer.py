"""The explorer in a real browser: the keyboard moves sliders, and the numbers follow."""

from __future__ import annotations

import math
import re
import statistics
from collections.abc import Callable, Iterator
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


WATCH = """picture => {
  let pressed = 0, resolve = null;
  document.addEventListener('keydown', () => { pressed = performance.now(); }, true);
  new MutationObserver(() => {
    if (!resolve) return;
    const told = resolve;
    resolve = null;
    // The frame that shows the change has been drawn when the one after it begins.
    requestAnimationFrame(() => requestAnimationFrame(() => told(performance.now() - pressed)));
  }).observe(picture, {childList: true, subtree: true, characterData: true});
  window.nextPicture = () => { window.drawn = new Promise(told => { resolve = told; }); };
}"""


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

    widget.press("temperature", "Home")
    expect(widget.number("largest p", 1)).to_have_text("100.0 %")
    expect(widget.control("temperature")).to_contain_text("greedy")
    widget.control("temperature").get_by_role("button").click()  # reset
    expect(widget.number("entropy, bits", 1)).to_have_text(neutral)


def test_every_line_holds_its_reset(widget: Widget):
    """A row that is too narrow would cut its last part off."""
    for name in ("temperature", "top_k", "repetition_penalty", "guided_choice", "max_tokens"):
        line = widget.control(name)
        row, button = line.bounding_box(), line.get_by_role("button").bounding_box()
        assert row and button, name
        assert button["x"] + button["width"] <= row["x"] + row["width"] + 1, name


def test_each_slider_answers_to_keys(widget: Widget):
    """Where both ends of a truncation are known: one token, or all of the vocabulary."""
    best = widget.number("largest p", 0).inner_text()
    whole = widget.number("can be drawn", 0).inner_text()
    for name, key in (("top_p", "Home"), ("top_k", "Home"), ("typical_p", "Home")):
        widget.press(name, key)
        expect(widget.number("can be drawn", 1)).to_have_text("1")
        widget.press(name, "End")
        expect(widget.number("can be drawn", 1)).to_have_text(whole)
        expect(widget.control(name)).to_contain_text("off")
    widget.press("min_p", "End")  # 0.5, and the second token has a tenth of the first
    expect(widget.number("kept mass", 1)).to_have_text(best)
    expect(widget.number("can be drawn", 1)).to_have_text("1")
    expect(widget.picture).to_contain_text("min_p")


def test_a_typed_number_moves_the_slider(widget: Widget, notebook: Notebook):
    readout = widget.readout("top_p")
    readout.fill("0.8")
    readout.press("Enter")
    expect(widget.number("kept mass", 1)).to_have_text("83.7 %")
    assert notebook.value("e.params")["top_p"] == 0.8


def test_walking_and_forcing(widget: Widget, notebook: Notebook):
    widget.button("sample 1").click()
    expect(widget.picture).to_contain_text("step 1:")
    first = notebook.value("e.completion")
    widget.cell.get_by_placeholder("or type a string").fill(" of")
    widget.page.keyboard.press("Enter")
    expect(widget.picture).to_contain_text("step 2:")
    assert notebook.value("e.completion") == first + " of"
    widget.button("←").click()
    expect(widget.picture).to_contain_text("step 1:")
    widget.button("back").click()
    expect(widget.picture).to_contain_text("step 0:")
    assert notebook.value("e.completion") == ""


def test_pinned_settings_stand_beside_the_present_ones(widget: Widget):
    entropy_before = widget.number("entropy, bits", 1).inner_text()
    widget.button("pin A").click()
    expect(widget.picture).to_contain_text("total variation 0.000")
    widget.press("top_p", "Home")
    expect(widget.number("entropy, bits", 1)).to_have_text(entropy_before)  # A stays
    expect(widget.number("entropy, bits", 2)).to_have_text("0.00")  # B is one token
    # With one token left, the distance is the mass of all others, 1 - 77.3 %.
    expect(widget.picture).to_contain_text("total variation 0.227")
    expect(widget.picture).to_contain_text("only A")
    widget.button("unpin").click()
    expect(widget.picture).not_to_contain_text("total variation")


def test_copied_code_is_the_request(widget: Widget, notebook: Notebook):
    widget.press("temperature", "ArrowLeft", times=4)
    widget.button("sample 1").click()
    expect(widget.picture).to_contain_text("step 1:")
    widget.button("code").click()
    copied = widget.cell.locator("textarea").last
    expect(copied).to_have_value(re.compile(r"temperature=0\.8"))
    notebook.run(copied.input_value())
    assert notebook.value("answer['choices'][0]['text'] == e.completion") is True


def test_stop_ends_a_long_text_and_the_engine_goes_on(widget: Widget, notebook: Notebook):
    notebook.run("e.set(max_tokens=4000, logit_bias=NEVER_ENDS)")
    stop = widget.button("Stop")
    expect(stop).to_be_disabled()
    widget.button("sample to end").click()
    expect(stop).to_be_enabled()
    short = len(widget.text.inner_text())
    widget.page.wait_for_function(
        "([text, length]) => text.innerText.length > length + 40",
        arg=[widget.text.element_handle(), short],
    )
    stop.click()
    expect(stop).to_be_disabled()
    notebook.run("e.wait()")
    drawn = notebook.value("len(e.session.walk.path)")
    assert 0 < drawn < 4000

    widget.button("sample 1").click()
    expect(widget.picture).to_contain_text(f"step {drawn + 1}:")
    notebook.run(f"r = lm.complete({PROMPT!r}, max_tokens=3, logit_bias=NEVER_ENDS)")
    assert notebook.value("r.record.usage.completion_tokens") == 3


def test_slider_to_screen(widget: Widget):
    """From the key to the frame after the new numbers: printed, and held only to what any machine
    can do."""
    widget.picture.wait_for()
    widget.page.evaluate(WATCH, widget.picture.element_handle())
    times = []
    for press in range(PRESSES + 3):
        widget.page.evaluate("() => window.nextPicture()")
        widget.press("temperature", "ArrowLeft" if press % 20 < 10 else "ArrowRight")
        times.append(widget.page.evaluate("() => window.drawn"))
    times = sorted(times[3:])  # the first ones warm up
    p95 = times[math.ceil(0.95 * len(times)) - 1]
    median = statistics.median(times)
    print(f"\nslider to screen: median {median:.0f} ms, p95 {p95:.0f} ms, {len(times)} presses")
    assert median < SLOW
