"""Section 6, cases 97 to 100: what stands around the completion, and what is counted."""

from __future__ import annotations

from typing import Any

import pytest

from tests.contract.surfaces import (
    joined,
    legacy_answer,
    legacy_events,
    pieces,
    record_of,
    strict_answer,
    strict_events,
)
from tests.contract.toys import EOS, INFILLING, TWIN, ids
from toolkit.completion.complete import LM
from toolkit.errors import InvalidRequest


def test_case_97_a_suffix_stands_after_the_completion(toy: LM):
    for fields, text, reason in (
        ({}, "one two three!", "stop"),
        ({"stop": "two"}, "one !", "stop"),
        ({"max_tokens": 2}, "one tw!", "length"),
        ({"max_tokens": 0}, "!", "length"),
        ({"echo": True}, "Aone two three!", "stop"),
    ):
        (choice,) = strict_answer(toy, "A", suffix="!", logprobs=True, **fields)["choices"]
        assert (choice["text"], choice["finish_reason"]) == (text, reason)
        assert all(entry["token"] != "!" for entry in choice["logprobs"]["content"])
        events = strict_events(toy, "A", suffix="!", n=2, **fields)
        for index in range(2):
            assert "".join(pieces(events, index)) == text
            assert [piece for piece in pieces(events, index) if piece][-1].endswith("!")
            assert "!" not in "".join(pieces(events, index)[:-1])
    assert toy.complete("A", suffix="!")["choices"][0]["text"] == "one two three!"


def test_case_97_the_legacy_route_refuses_what_it_cannot_fill_in(toy: LM):
    for call in (legacy_answer, legacy_events):
        with pytest.raises(InvalidRequest, match="`suffix`"):
            call(toy, "A", suffix="!")
    assert legacy_answer(toy, "A", suffix="")["choices"][0]["text"] == "one two three"


def test_case_97_a_model_with_marks_fills_in_the_middle(infilling: LM):
    marks = INFILLING.specials
    record = record_of(infilling, "def", suffix="end")
    assert record.prompts == (
        (
            marks["<|fim_prefix|>"],
            *b"def",
            marks["<|fim_suffix|>"],
            *b"end",
            marks["<|fim_middle|>"],
        ),
    )
    for answer in (strict_answer, legacy_answer):
        (choice,) = answer(infilling, "def", suffix="end")["choices"]
        assert (choice["text"], choice["finish_reason"]) == ("ok", "stop")
        (choice,) = answer(infilling, "", suffix="end")["choices"]
        assert choice["text"] == "ok"
    assert joined(legacy_events(infilling, "def", suffix="end"))[0]["text"] == "ok"
    assert strict_answer(infilling, "A", suffix="")["choices"][0]["text"] == "one two three"
    with pytest.raises(InvalidRequest, match="needs string prompts"):
        strict_answer(infilling, [65], suffix="end")


@pytest.mark.parametrize("stream", [False, True])
def test_case_98_echo_is_the_prompt_and_the_completion(toy: LM, stream: bool):
    def text(prompt: Any, **fields: Any) -> str:
        fields = {"echo": True, **fields}
        if stream:
            events = strict_events(toy, prompt, **fields)
            first = pieces(events)[0]
            assert first.startswith(toy.tokenizer.decode(prompt) if prompt else "")
            return "".join(pieces(events))
        return strict_answer(toy, prompt, **fields)["choices"][0]["text"]

    assert text([*b"go J"]) == "go Jok"
    assert text([*ids(b"hello"), EOS, TWIN, ord("J")]) == "hello<|end|>日Jok"
    assert text([*b"go J"], max_tokens=0) == "go J"


def test_case_98_the_echo_of_an_empty_prompt_is_empty(toy: LM, beginning: LM):
    for lm in (toy, beginning):
        fields = {"seed": 1, "max_tokens": 8}
        (plain,) = strict_answer(lm, "", **fields)["choices"]
        assert strict_answer(lm, "", echo=True, **fields)["choices"] == [plain]
        (choice,) = legacy_answer(lm, "", echo=True, logprobs=0, **fields)["choices"]
        assert choice["text"] == plain["text"]
        arrays = choice["logprobs"]
        assert arrays["token_logprobs"][0] is None and arrays["text_offset"][0] == 0
        assert None not in arrays["token_logprobs"][1:]


def test_case_98_echo_keeps_the_string_that_was_given(toy: LM):
    prompt = "Cr\u00e8me\r\n\t\u2028 <|end|> \N{ROCKET}J"
    assert strict_answer(toy, prompt, echo=True)["choices"][0]["text"] == prompt + "ok"


def test_case_99_usage_counts_a_prompt_once_and_every_sampled_token(toy: LM, beginning: LM):
    usage = legacy_answer(toy, ["xxA", "I"], n=2)["usage"]
    assert usage == {"prompt_tokens": 3 + 1, "completion_tokens": 10 + 2, "total_tokens": 16}
    stopped = legacy_answer(toy, "A", n=2, stop="two")["usage"]
    assert stopped == {"prompt_tokens": 1, "completion_tokens": 6, "total_tokens": 7}
    assert legacy_answer(beginning, "A", max_tokens=0)["usage"]["prompt_tokens"] == 2
    same = legacy_answer(toy, ["A", "A"], max_tokens=1)["usage"]
    assert same == {"prompt_tokens": 2, "completion_tokens": 2, "total_tokens": 4}


def test_case_100_the_usage_event(toy: LM):
    asked = {"stream_options": {"include_usage": True}, "n": 2}
    usage = legacy_answer(toy, ["A", "J"], n=2)["usage"]
    *events, last = strict_events(toy, ["A", "J"], **asked)
    assert last["choices"] == [] and last["usage"] == usage
    assert not any("usage" in event for event in events)
    *events, last = legacy_events(toy, ["A", "J"], **asked)
    assert last["choices"] == [] and last["usage"] == usage
    assert all(event["usage"] is None for event in events)
    *events, last = toy.stream(["A", "J"], **asked)
    assert last["choices"] == [] and last["usage"] == usage
    for stream in (strict_events, legacy_events):
        for fields in ({}, {"stream_options": {"include_usage": False}}):
            for event in stream(toy, "A", **fields):
                assert event["choices"] and "usage" not in event


def test_case_100_usage_so_far_on_every_event(toy: LM):
    options = {"include_usage": True, "continuous_usage_stats": True}
    events = legacy_events(toy, "A", stream_options=options, logprobs=0)
    counts = [event["usage"]["completion_tokens"] for event in events]
    assert counts == sorted(counts) and counts[0] == 1 and counts[-2:] == [5, 5]
