"""The explorer, driven as a browser would: values are set, buttons are clicked."""

from __future__ import annotations

import json
import threading

import pytest

import toolkit
from tests.widgets.conftest import VOCABULARY
from tests.widgets.test_session import Parsed
from toolkit.errors import InvalidRequest
from toolkit.widgets import Explorer, explore


@pytest.fixture
def explorer(small) -> Explorer:
    return explore(small, "ab", temperature=0.9, max_tokens=6)


def read(explorer: Explorer) -> str:
    return Parsed(explorer.picture.value).text


def message(explorer: Explorer) -> str:
    return Parsed(explorer.message.value).text


def test_it_is_part_of_the_front_door():
    assert toolkit.explore is explore
    assert toolkit.widgets.Explorer is Explorer


def test_every_slider_moves_its_parameter(explorer):
    neutral = explorer.params
    assert neutral == {"temperature": 0.9, "seed": 0, "max_tokens": 6}
    explorer.session.sample(2)  # penalties need something to count
    explorer.session.refresh()
    moves = {
        "temperature": (0.7, 0.7),
        "top_p": (0.85, 0.85),
        "top_k": (30.0, 30),
        "min_p": (0.305, 0.305),
        "typical_p": (0.95, 0.95),
        "presence_penalty": (0.3, 0.3),
        "frequency_penalty": (-0.15, -0.15),
        "repetition_penalty": (1.1, 1.1),
        "guided_choice": ("yes|no", ["yes", "no"]),
        "seed": ("-9223372036854775808", -(2**63)),
        "max_tokens": (9, 9),
    }
    assert set(moves) == set(explorer.controls)
    for name, (value, meant) in moves.items():
        before = explorer.picture.value
        explorer.controls[name].parts[0].value = value
        assert explorer.params[name] == meant
        if name not in ("seed", "max_tokens", "guided_choice"):
            assert explorer.picture.value != before, name
        explorer.controls[name]._reset.click()
    assert message(explorer) == ""


def test_reset_makes_a_parameter_neutral_and_says_so(explorer):
    control = explorer.controls["top_p"]
    assert "off" in control._label.value
    control.parts[0].value = 0.5
    assert "off" not in control._label.value
    control._reset.click()
    assert control.parts[0].value == 1 and "top_p" not in explorer.params
    assert "off" in control._label.value
    explorer.controls["temperature"].parts[0].value = 0
    assert "greedy" in explorer.controls["temperature"]._label.value


def test_top_k_is_one_parameter_with_two_handles(explorer):
    line, number = explorer.controls["top_k"].parts
    assert number.value == 0 and line.value == pytest.approx(VOCABULARY.size)
    number.value = 40
    assert line.value == pytest.approx(40) and explorer.params["top_k"] == 40
    line.value = 7.3
    assert number.value == 7 and explorer.params["top_k"] == 7
    line.value = VOCABULARY.size
    assert number.value == 0 and "top_k" not in explorer.params


def test_a_value_beyond_a_slider_is_shown_as_it_is(small):
    explorer = explore(small, "ab", min_p=0.75, repetition_penalty=0.5)
    assert explorer.controls["min_p"].parts[0].value == 0.75
    assert explorer.controls["repetition_penalty"].parts[0].value == 0.5
    explorer.set(min_p=0.875, repetition_penalty=None)
    assert explorer.controls["min_p"].parts[0].value == explorer.params["min_p"] == 0.875
    assert explorer.controls["repetition_penalty"].parts[0].value == 1
    assert "repetition_penalty" not in explorer.params


def test_what_is_wrong_stands_in_a_strip_and_changes_nothing(explorer):
    explorer.controls["seed"].parts[0].value = "many"
    assert "`seed` must be an integer, got 'many'" in message(explorer)
    assert 'role="alert"' in explorer.message.value
    assert explorer.params["seed"] == 0
    explorer.controls["seed"].parts[0].value = "12"
    assert message(explorer) == "" and explorer.params["seed"] == 12


def test_wrong_arguments_are_refused(small):
    with pytest.raises(InvalidRequest, match="`top_p` must be in"):
        explore(small, "ab", top_p=2)
    with pytest.raises(InvalidRequest, match="`n` is not a parameter of the explorer"):
        explore(small, "ab", n=2)
    with pytest.raises(InvalidRequest, match="`prompt` must be a string"):
        explore(small, ["ab"])
    with pytest.raises(InvalidRequest, match="`tempreature` is not a parameter of the explorer"):
        explore(small, "ab").set(tempreature=1)


def test_buttons_walk_draw_and_rewind(small, explorer):
    a = explorer.actions
    for _ in range(3):
        a.one.click()
    explorer.wait()
    assert (a.step.value, a.step.max) == (3, 3)
    answer = small.complete("ab", **explorer.params | {"max_tokens": 3})
    assert explorer.completion == answer.record.choices[0].completion
    a.left.click()
    a.left.click()
    explorer.wait()
    assert (a.step.value, a.step.max) == (1, 3) and "step 1:" in read(explorer)
    a.step.value = 2
    explorer.wait()
    assert "step 2:" in read(explorer)
    a.back.click()
    explorer.wait()
    assert (a.step.value, a.step.max) == (1, 1)
    a.left.click()
    explorer.wait()
    assert a.left.disabled and a.back.disabled and not a.right.disabled
    a.end.click()
    explorer.wait()
    assert a.step.value == 6
    assert explorer.completion == small.complete("ab", **explorer.params)["choices"][0]["text"]


def test_a_token_is_forced_from_the_list_and_by_typing(explorer):
    a = explorer.actions
    label, token = a.choice.options[1]
    assert f"#{token}" in label
    a.choice.value = token
    explorer.wait()
    assert [step.id for step in explorer.session.walk.path] == [token]
    assert (a.choice.index, a.choice.label) == (0, "choose a token")
    a.typed.value = "xy"
    explorer.wait()
    assert [step.id for step in explorer.session.walk.path] == [token, ord("x"), ord("y")]
    assert a.typed.value == "" and explorer.text.value.count("✎") == 3
    a.typed.value = "#99999"
    explorer.wait()
    assert "#99999 does not exist" in message(explorer)


def test_the_bias_table_adds_changes_and_removes(explorer):
    table = explorer.bias
    table.text.value, table.amount.value = "b", 4.0
    table.add.click()
    assert explorer.params["logit_bias"] == {98: 4.0} and message(explorer) == ""
    table.text.value = " Paris"  # bytes: this tokenizer has no merges
    table.add.click()
    assert "6 tokens" in message(explorer) and "Only the first is taken" in message(explorer)
    assert explorer.params["logit_bias"] == {98: 4.0, 32: 4.0}
    entry = table.entries.children[0]
    entry.children[1].value = -100
    assert explorer.params["logit_bias"][98] == -100
    entry.children[2].click()
    assert explorer.params["logit_bias"] == {32: 4.0}
    table.text.value = ""
    table.add.click()
    assert "`token` is empty" in message(explorer)


def test_another_prompt_restarts(explorer):
    explorer.actions.one.click()
    explorer.prompt.value = "cd"
    explorer.wait()
    assert explorer.session.walk.prompt == "cd" and explorer.completion == ""
    explorer.prompt.value = "x" * 99
    explorer.wait()
    assert "context" in message(explorer) and explorer.session.walk.prompt == "cd"


def test_pinned_parameters_are_compared_with_the_present_ones(explorer):
    a = explorer.actions
    a.pin.click()
    assert "total variation 0.000 · KL(A‖B) 0.00 bits" in read(explorer)
    explorer.controls["top_k"].parts[1].value = 3
    assert "KL(A‖B) ∞ bits" in read(explorer) and "only A" in read(explorer)
    assert "B top_k" in read(explorer)
    a.unpin.click()
    assert "KL" not in read(explorer) and a.unpin.disabled


def test_a_probed_token_has_a_row(explorer):
    explorer.actions.probe.value = "z"
    rank = explorer.live.rank(ord("z"))
    assert f"rank {rank}" in read(explorer)
    explorer.actions.probe.value = "zz"
    assert "is 2 tokens: z, z" in message(explorer)


def test_the_request_to_copy_follows_the_sliders(small, explorer):
    a = explorer.actions
    assert a.copy.layout.display == "none"
    a.form.value = "json"
    explorer.controls["top_p"].parts[0].value = 0.5
    assert json.loads(a.copy.value)["top_p"] == 0.5
    a.form.value = "code"
    a.one.click()
    explorer.wait()
    names = {"lm": small}
    exec(a.copy.value, names)
    assert names["answer"]["choices"][0]["text"] == explorer.completion
    assert explorer.actions.remark.value == ""
    explorer.controls["seed"].parts[0].value = "1"
    assert "draws its own" in a.remark.value


def test_samples_show_beside_the_text_and_leave_it(explorer):
    explorer.actions.one.click()
    explorer.actions.five.click()
    explorer.wait()
    assert explorer.samples.value.count("choice") >= 5
    assert "5 continuations from step 1" in explorer.samples.value
    assert explorer.session.walk.cursor == 1
    explorer.prompt.value = "cd"
    explorer.wait()
    assert explorer.samples.value == ""


def test_stop_works_while_a_text_is_drawn(explorer):
    begun, clicked = threading.Event(), threading.Event()
    sample = explorer.session.sample

    def slow(count, *, watch, told):
        begun.set()
        assert clicked.wait(60)
        return sample(count, watch=watch, told=told)

    explorer.session.sample = slow
    explorer.actions.end.click()
    assert begun.wait(60)
    assert not explorer.actions.stop.disabled
    explorer.controls["top_p"].parts[0].value = 0.5  # sliders answer meanwhile
    assert "top_p" in read(explorer)
    explorer.actions.stop.click()
    clicked.set()
    explorer.wait()
    assert explorer.session.walk.cursor < 6
    assert explorer.actions.stop.disabled and message(explorer) == ""


def test_an_error_of_the_engine_stands_in_the_strip(explorer):
    def fail(*args, **kwargs):
        raise RuntimeError("the device is gone")

    explorer.session.sample = fail
    explorer.actions.one.click()
    explorer.wait()
    assert "RuntimeError: the device is gone" in message(explorer)
    del explorer.session.sample
    explorer.actions.one.click()
    explorer.wait()
    assert explorer.session.walk.cursor == 1 and message(explorer) == ""


def test_of_many_waiting_pictures_only_the_last_is_drawn(explorer, monkeypatch):
    import toolkit.widgets.explorer as module

    drawn: list[int] = []
    inside, go = threading.Event(), threading.Event()

    def slow(session):
        drawn.append(session.settings.seed)
        inside.set()
        assert go.wait(60)
        return ""

    monkeypatch.setattr(module, "page", slow)
    threads = []
    for seed in range(1, 6):
        thread = threading.Thread(target=explorer.set, kwargs={"seed": seed})
        thread.start()
        threads.append(thread)
        if seed == 1:
            assert inside.wait(60)
        else:
            while explorer._asked < seed + 1:  # it waits behind the first
                threading.Event().wait(0.001)
    go.set()
    for thread in threads:
        thread.join()
    assert drawn == [1, 5]


def test_moving_sliders_takes_no_step_and_no_program(small, explorer):
    explorer.actions.one.click()
    explorer.wait()
    stats = small.stats()
    before = stats.steps, stats.prefilled, stats.reused, len(stats.compiles)
    for name in ("temperature", "top_p", "min_p", "typical_p", "presence_penalty"):
        for value in (0.0, 0.25, 0.5):
            explorer.controls[name].parts[0].value = value
    explorer.bias.put("q", 3.0)
    explorer.actions.pin.click()
    assert (stats.steps, stats.prefilled, stats.reused, len(stats.compiles)) == before


def test_it_shows_as_a_widget_a_still_picture_and_plain_text(explorer):
    bundle = explorer._repr_mimebundle_()
    assert "application/vnd.jupyter.widget-view+json" in bundle
    assert explorer.picture.value in bundle["text/html"]
    assert bundle["text/plain"].startswith("<Explorer of 'ab': {'temperature': 0.9")
