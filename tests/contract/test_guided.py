"""Section 6, cases 89 to 96: the text is one of the given choices."""

from __future__ import annotations

from typing import Any

import pytest

from tests.contract.surfaces import (
    S,
    joined,
    legacy_answer,
    record_of,
    strict_answer,
    strict_events,
)
from tests.contract.toys import EOS, ids
from toolkit.completion.complete import LM
from toolkit.errors import InvalidRequest

MOODS = ["joy", "sadness"]


def chosen(lm: LM, choices: list[str], prompt: Any = "q", **fields: Any) -> list[tuple[str, str]]:
    answer = strict_answer(lm, prompt, guided_choice=choices, **{"seed": 1, **fields})
    return [(choice["text"], choice["finish_reason"]) for choice in answer["choices"]]


def test_case_89_the_text_is_one_of_the_choices(toy: LM):
    assert chosen(toy, MOODS)[0][0] in MOODS
    hot = chosen(toy, MOODS, temperature=2, n=8)
    assert {text for text, _ in hot} <= set(MOODS) and {end for _, end in hot} == {"stop"}
    echoed = chosen(toy, MOODS, "joy? ", n=4, echo=True)
    assert {text for text, _ in echoed} <= {"joy? joy", "joy? sadness"}


@pytest.mark.parametrize("echo", [False, True])
def test_case_89_a_stream_of_choices(toy: LM, echo: bool):
    fields = {"guided_choice": MOODS, "n": 8, "temperature": 2, "seed": 1, "echo": echo}
    added = joined(strict_events(toy, "joy? ", **fields))
    whole = strict_answer(toy, "joy? ", **fields)["choices"]
    assert [added[i]["text"] for i in range(8)] == [choice["text"] for choice in whole]
    assert {choice["finish_reason"] for choice in added.values()} == {"stop"}


def test_case_90_a_choice_that_begins_another(toy: LM):
    found = chosen(toy, ["a", "ab"], n=64)
    assert set(found) == {("a", "stop"), ("ab", "stop")}
    record = record_of(toy, "q", guided_choice=["a", "ab"], n=64, seed=1)
    for choice in record.choices:  # EOS competes after "a" only
        spelt = [token.id for token in choice.tokens]
        assert spelt in ([97, EOS], [97, 98], ids(b"ab"))
        assert choice.stop_reason is None
    three = chosen(toy, ["a", "ab", "abc"], n=128, temperature=2)
    assert set(three) == {("a", "stop"), ("ab", "stop"), ("abc", "stop")}


def test_case_91_a_forced_choice_has_raw_logprobs(toy: LM):
    (choice,) = strict_answer(toy, "A", guided_choice=["x"], logprobs=True)["choices"]
    assert choice["text"] == "x"
    (entry,) = choice["logprobs"]["content"]
    assert entry["logprob"] == pytest.approx(-30, abs=1e-5)  # "one " has all the probability
    assert entry["top_logprobs"][0]["token"] == "one "


def test_case_91_a_leaf_needs_no_eos(toy: LM):
    record = record_of(toy, "q", S, guided_choice=["abc"], seed=1)
    assert record.choices[0].text == "abc" and EOS not in [t.id for t in record.choices[0].tokens]


@pytest.mark.parametrize(
    "choice",
    [
        "two\nlines",
        'a "quote"',
        "back\\slash",
        "😀 smile",
        " leading",
        "日本",
        "\t",
        "ё",
        "été",
        "\x00",
    ],
)
def test_case_92_any_text_may_be_a_choice(toy: LM, choice: str):
    others = [choice + "!", "else"]
    assert chosen(toy, [choice], max_tokens=40) == [(choice, "stop")]
    found = chosen(toy, [choice, *others], n=16, temperature=2, max_tokens=40)
    assert {text for text, _ in found} <= {choice, *others}
    assert {end for _, end in found} == {"stop"}


def test_case_93_a_short_budget_gives_the_beginning_of_a_choice(toy: LM):
    for text, end in chosen(toy, MOODS, n=8, max_tokens=2, temperature=2):
        assert end == "length" and any(m.startswith(text) and m != text for m in MOODS)
    assert chosen(toy, ["hello"], "C", max_tokens=1) == [("hello", "stop")]
    (cut,) = chosen(toy, ["hi 😀!"], "L", max_tokens=2)
    assert cut == ("hi \ufffd", "length")


def test_case_94_duplicates_count_once(toy: LM):
    assert chosen(toy, ["a", "b", "a", "a"], n=32) == chosen(toy, ["a", "b"], n=32)


def test_case_95_a_bias_steers_and_does_not_leave(toy: LM):
    towards = {str(ord("s")): 100, str(ord("z")): 100}
    assert set(chosen(toy, MOODS, n=8, logit_bias=towards)) == {("sadness", "stop")}
    against = {str(ord("j")): -100, str(ord("s")): -100}
    assert {text for text, _ in chosen(toy, MOODS, n=8, logit_bias=against)} <= set(MOODS)


def test_case_96_a_stop_inside_a_choice_is_refused(toy: LM):
    with pytest.raises(InvalidRequest, match="would cut it"):
        chosen(toy, MOODS, stop="ad")
    assert chosen(toy, MOODS, stop="xyz")[0][1] == "stop"


def test_order_of_the_choices_changes_nothing(toy: LM):
    assert chosen(toy, MOODS, n=16) == chosen(toy, MOODS[::-1], n=16)


def test_a_thousand_choices(toy: LM):
    numbers = [str(number) for number in range(1000)]  # "1" begins "10", which begins "100"
    found = {text for text, _ in chosen(toy, numbers, n=128, temperature=2)}
    assert found <= set(numbers) and len(found) > 20 and {len(t) for t in found} == {1, 2, 3}
    sentences = [f"Answer {number:03d}: \N{SNOWMAN} “so”\n" for number in range(1000)]
    for stream in (False, True):
        fields = {"guided_choice": sentences, "seed": 2, "max_tokens": 40}
        if stream:
            (choice,) = joined(strict_events(toy, "q", **fields)).values()
        else:
            (choice,) = strict_answer(toy, "q", **fields)["choices"]
        assert choice["text"] in sentences and choice["finish_reason"] == "stop"


def test_guides_of_several_requests_share_a_batch(toy: LM):
    singly = [chosen(toy, choices, n=2, seed=3) for choices in (MOODS, ["a", "ab"], ["x\n"])]
    requests = [MOODS, ["a", "ab"], ["x\n"]]
    streams = [toy.stream("q", guided_choice=choices, n=2, seed=3) for choices in requests]
    for stream, expected in zip(streams, singly, strict=True):
        added = joined(list(stream))
        assert [(added[i]["text"], added[i]["finish_reason"]) for i in range(2)] == expected


def test_legacy_answers_name_no_stop_reason(toy: LM):
    (choice,) = legacy_answer(toy, "q", guided_choice=["a", "ab"], temperature=0)["choices"]
    assert choice["finish_reason"] == "stop" and choice["stop_reason"] is None
