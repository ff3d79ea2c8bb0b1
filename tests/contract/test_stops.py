"""Section 6, cases 47 to 61: stop strings and EOS."""

from __future__ import annotations

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
from tests.contract.toys import EOS
from tests.oracle.text import held_back
from toolkit.completion.complete import LM


def stopped(lm: LM, prompt: str, stop: str | list[str], **fields) -> tuple[str, str, str | None]:
    (choice,) = legacy_answer(lm, prompt, stop=stop, **fields)["choices"]
    (strict,) = strict_answer(lm, prompt, stop=stop, **fields)["choices"]
    assert strict["text"] == choice["text"] and strict["finish_reason"] == choice["finish_reason"]
    return choice["text"], choice["finish_reason"], choice["stop_reason"]


def test_case_47_stop_over_several_tokens(toy: LM):
    assert stopped(toy, "A", "two") == ("one ", "stop", "two")
    assert stopped(toy, "A", []) == ("one two three", "stop", None)


def test_case_48_earliest_end_wins_inside_one_token(toy: LM):
    assert stopped(toy, "B", ["bc", "abcd"]) == ("a", "stop", "bc")
    assert stopped(toy, "B", ["abcd", "bc"]) == ("a", "stop", "bc")
    assert stopped(toy, "C", ["lo", "ell"]) == ("h", "stop", "ell")


def test_case_49_ties_follow_the_list(toy: LM):
    assert stopped(toy, "D", ["c", "bc"]) == ("ab", "stop", "c")
    assert stopped(toy, "D", ["bc", "c"]) == ("a", "stop", "bc")


@pytest.mark.parametrize("prompt", ["ST", [83, 84]])
@pytest.mark.parametrize("echo", [False, True])
def test_case_50_a_stop_never_begins_in_the_prompt(toy: LM, prompt, echo: bool):
    text = "STOP" if echo else "OP"
    assert stopped(toy, prompt, "STOP", echo=echo) == (text, "stop", None)


def test_case_51_an_echoed_prompt_is_not_searched(toy: LM):
    assert stopped(toy, "stop A", ["stop", "two"], echo=True) == ("stop Aone ", "stop", "two")
    events = strict_events(toy, "stop A", stop=["stop", "two"], echo=True)
    assert pieces(events)[0].startswith("stop A") and "".join(pieces(events)) == "stop Aone "


def test_case_52_stop_on_the_last_allowed_token(toy: LM):
    assert stopped(toy, "A", "two", max_tokens=3) == ("one ", "stop", "two")
    assert stopped(toy, "A", "two", max_tokens=2) == ("one tw", "length", None)


def test_case_53_eos_on_the_last_allowed_token(toy: LM):
    assert stopped(toy, "J", [], max_tokens=2) == ("ok", "stop", None)
    assert stopped(toy, "J", [], max_tokens=1) == ("ok", "length", None)


def test_case_54_first_token_eos(toy: LM):
    answer = legacy_answer(toy, "I", logprobs=0)
    (choice,) = answer["choices"]
    assert (choice["text"], choice["finish_reason"], choice["stop_reason"]) == ("", "stop", None)
    assert choice["logprobs"]["tokens"] == ["<|end|>"]
    assert choice["logprobs"]["text_offset"] == [0]
    assert answer["usage"]["completion_tokens"] == 1
    (choice,) = strict_answer(toy, "I", logprobs=True)["choices"]
    assert choice["text"] == "" and choice["logprobs"] == {"content": []}
    assert strict_events(toy, "I", logprobs=True)[0]["choices"] == [
        {"index": 0, "text": "", "finish_reason": "stop"}
    ]


def test_case_55_arrays_hold_the_stop_and_the_content_does_not(toy: LM):
    (choice,) = legacy_answer(toy, "A", stop="two", logprobs=0)["choices"]
    assert choice["logprobs"]["tokens"] == ["one ", "tw", "o t"]
    assert choice["logprobs"]["text_offset"] == [0, 4, 6]
    (choice,) = strict_answer(toy, "A", stop="two", logprobs=True)["choices"]
    assert [entry["token"] for entry in choice["logprobs"]["content"]] == ["one "]
    (choice,) = strict_answer(toy, "A", stop="wo", logprobs=True)["choices"]
    assert choice["text"] == "one t"
    assert [entry["token"] for entry in choice["logprobs"]["content"]] == ["one ", "tw"]
    answer = legacy_answer(toy, "A", stop="two", max_tokens=8)
    assert answer["usage"]["completion_tokens"] == 3


def test_case_56_a_stop_waits_for_whole_characters(toy: LM):
    assert stopped(toy, "K", "é") == ("caf", "stop", "é")
    assert stopped(toy, "K", "é", max_tokens=2) == ("caf\ufffd", "length", None)
    assert stopped(toy, "K", ["\ufffd", "fé"]) == ("ca", "stop", "fé")


def test_case_57_nothing_of_a_stop_is_ever_sent(toy: LM):
    events = strict_events(toy, "E", stop="own fox")
    assert "".join(pieces(events)) == "br"
    assert all(piece in ("br", "") for piece in pieces(events))
    assert events[-1]["choices"][0]["finish_reason"] == "stop"


def test_case_58_all_is_sent_when_the_stop_breaks_off(toy: LM):
    assert pieces(strict_events(toy, "F", stop="own fox")) == ["br", "own d", "og", ""]


def test_case_59_held_text_is_flushed_at_the_end(toy: LM):
    assert pieces(strict_events(toy, "G", stop="own fox")) == ["dr", "own"]
    assert pieces(strict_events(toy, "G", stop="own fox", max_tokens=2)) == ["dr", "own"]
    told = legacy_events(toy, "G", stop="own fox", logprobs=0)
    assert pieces(told) == ["dr", "", "", "own"]  # tokens are told while their text is held
    assert [len(e["choices"][0]["logprobs"]["tokens"]) for e in told[:-1]] == [1, 1, 1]


def test_case_60_the_overlap_begins_anew(toy: LM):
    assert "".join(pieces(strict_events(toy, "H", stop="ab"))) == "a"
    assert stopped(toy, "H", "ab") == ("a", "stop", "ab")


def test_case_61_no_more_is_held_than_may_begin_a_stop(toy: LM):
    stops, text = ["e two th", "three!"], "one two three"
    events = legacy_events(toy, "A", stop=stops, return_token_ids=True, logprobs=0)
    sent, drawn = "", ""
    for choice in (event["choices"][0] for event in events):
        sent += choice["text"]
        if choice["finish_reason"] is None:
            drawn += "".join(choice["logprobs"]["tokens"])
            assert sent == drawn.removesuffix(held_back(drawn, stops))
    assert sent == stopped(toy, "A", stops)[0] and text.startswith(drawn)


def test_stop_token_ids_end_the_text_and_are_named(toy: LM):
    stop = toy.tokenizer.vocabulary().index(b"o t")
    (choice,) = legacy_answer(toy, "A", stop_token_ids=[stop], logprobs=0)["choices"]
    assert (choice["text"], choice["finish_reason"]) == ("one tw", "stop")
    assert choice["stop_reason"] == stop
    assert choice["logprobs"]["tokens"] == ["one ", "tw", "o t"]
    whole = {"stop_token_ids": [stop], "include_stop_str_in_output": True}
    (choice,) = legacy_answer(toy, "A", **whole)["choices"]
    assert (choice["text"], choice["stop_reason"]) == ("one two t", stop)


def test_a_stop_token_id_goes_before_a_stop_string(toy: LM):
    stop = toy.tokenizer.vocabulary().index(b"o t")
    fields = {"stop_token_ids": [stop, EOS], "include_stop_str_in_output": True}
    (choice,) = legacy_answer(toy, "A", stop=["wo", "o"], **fields)["choices"]
    assert (choice["text"], choice["stop_reason"]) == ("o", "o")  # of "one "
    (choice,) = legacy_answer(toy, "A", stop=["two", "w d"], **fields)["choices"]
    assert (choice["text"], choice["stop_reason"]) == ("one two t", stop)
    (choice,) = legacy_answer(toy, "J", **fields)["choices"]
    assert (choice["text"], choice["stop_reason"]) == ("ok", None)  # EOS is no text, ever


def test_a_stop_may_stay_in_the_text(toy: LM):
    fields = {"stop": "wo", "include_stop_str_in_output": True}
    (choice,) = legacy_answer(toy, "A", **fields)["choices"]
    assert (choice["text"], choice["finish_reason"], choice["stop_reason"]) == (
        "one two",
        "stop",
        "wo",
    )
    assert joined(legacy_events(toy, "A", **fields))[0]["text"] == "one two"


def test_min_tokens_holds_eos_back_and_ignored_eos_is_a_token(toy: LM):
    held = record_of(toy, "J", min_tokens=3, seed=1, max_tokens=3)
    assert EOS not in [token.id for token in held.choices[0].tokens]
    ignored = record_of(toy, "J", ignore_eos=True, seed=1, max_tokens=3)
    assert ignored.choices[0].tokens[1].id == EOS
    assert len(ignored.choices[0].tokens) == 3
    assert ignored.choices[0].finish_reason == "length"
