"""Guides and whole choices against the contract's edge cases, whose numbers stand in comments."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings

from tests.oracle.choice import best, generate
from tests.oracle.guide import Guide, choice_probability, tokenisations
from tests.oracle.strategies import jobs
from tests.oracle.toy import MarkovModel, chain, path
from toolkit.sampling.params import SamplingParams

LETTERS = [bytes([letter]) for letter in b"abcdefgh"]


# Guide


def test_guide_allows_any_tokenisation_and_eos_between_choices():  # 90
    guide = Guide((b"a", b"abc"), [b"a", b"b", b"c", b"ab", b"bc", b"abcd", b""], eos_ids=(6,))
    assert guide.allowed(b"") == [0, 3]
    assert guide.allowed(b"a") == [1, 4, 6] and not guide.finished(b"a")
    assert guide.allowed(b"ab") == [2] and guide.finished(b"abc")
    assert guide.allowed(b"abc") == []


def test_tokenisations_are_all_of_them():
    assert sorted(tokenisations(b"aaa", [b"a", b"aa", b""])) == [(0, 0, 0), (0, 1), (1, 0)]


def test_choice_probability_sums_over_tokenisations():
    # a: 1/2, aa: 1/4, b: 1/4 everywhere. "aa" = a a (1/4) + aa (1/4); "ab" = a b
    model = MarkovModel(np.tile(np.log([0.5, 0.25, 0.25]), (3, 1)))
    assert choice_probability(model, [0], b"aa", [b"a", b"aa", b"b"]) == pytest.approx(0.5)
    assert choice_probability(model, [0], b"ab", [b"a", b"aa", b"b"]) == pytest.approx(0.125)


# Whole choices: ids 0..7 are the letters a..h, 8 ends a text


def along(text: bytes, *, end: bool = False, **arguments):
    """Greedy generation from h along distinct letters, then perhaps end of text."""
    ids = [7, *(letter - 97 for letter in text), *([8] if end else [])]
    arguments = {"max_tokens": len(ids) - 1, "eos_ids": [8]} | arguments
    params = SamplingParams(temperature=0, **arguments.pop("params", {}))
    return generate(MarkovModel(path(9, ids)), [7], params, vocabulary=[*LETTERS, b""], **arguments)


def test_budget_ends_a_choice():
    whole = along(b"abc", max_tokens=2)
    assert (whole.text, whole.finish_reason, whole.stop_reason, whole.tokens) == (
        "ab",
        "length",
        None,
        [0, 1],
    )
    assert (
        along(b"abc", max_tokens=0).text == ""
        and along(b"abc", max_tokens=0).finish_reason == "length"
    )


def test_end_of_text_ends_a_choice_also_on_the_last_token():  # 53, 54
    ended = along(b"ab", end=True)
    assert (ended.text, ended.finish_reason, ended.tokens) == ("ab", "stop", [0, 1, 8])
    assert along(b"", end=True).text == "" and len(along(b"", end=True).steps) == 1


def test_ignored_end_of_text_goes_on():
    assert along(b"ab", end=True, max_tokens=3, ignore_eos=True).finish_reason == "length"


def test_stop_ends_a_choice_also_on_the_last_token():  # 47, 52
    stopped = along(b"abcd", stops=["cd"])
    assert (stopped.text, stopped.finish_reason, stopped.stop_reason) == ("ab", "stop", "cd")
    assert along(b"abcd", stops=["cd"], include_stop=True).text == "abcd"
    assert along(b"abcde", stops=["bc"]).tokens == [0, 1, 2]


def test_stop_ids_end_a_choice_and_min_tokens_holds_them_back():
    assert along(b"abc", params={"stop_ids": (1,)}).text == "a"
    assert along(b"abc", params={"stop_ids": (1,)}, include_stop=True).text == "ab"
    held = along(b"abc", params={"stop_ids": (1,), "min_tokens": 2})
    assert held.tokens[1] != 1 and held.steps[1].distribution.dropped_by[1] == "min_tokens"


def test_stop_inside_a_character_waits_for_all_of_it():  # 56, 66
    vocabulary = [b"\xc3", b"\xa9", b"\xa8", b"x", b""]
    model, greedy = MarkovModel(path(5, [3, 0, 1])), SamplingParams(temperature=0)
    stopped = generate(model, [3], greedy, max_tokens=2, vocabulary=vocabulary, stops=["é"])
    assert stopped.text == "" and stopped.tokens == [0, 1]
    assert (
        generate(model, [3], greedy, max_tokens=1, vocabulary=vocabulary, stops=["é"]).text
        == "\ufffd"
    )
    completed = generate(model, [0], greedy, max_tokens=1, vocabulary=vocabulary, before=b"\xc3")
    assert completed.text == "é"


def test_guided_choice_ends_at_a_leaf_and_competes_at_a_prefix():  # 89, 90, 93, 94
    vocabulary = [*LETTERS, b""]
    guide = Guide((b"a", b"ab", b"a"), vocabulary, eos_ids=(8,))
    flat = MarkovModel(np.zeros((9, 9), np.float32))
    texts = {
        (c.text, c.finish_reason, len(c.tokens))
        for seed in range(20)
        for c in [
            generate(
                flat,
                [7],
                SamplingParams(seed=seed),
                max_tokens=5,
                vocabulary=vocabulary,
                eos_ids=[8],
                guide=guide,
            )
        ]
    }
    assert texts == {("a", "stop", 2), ("ab", "stop", 2)}
    short = Guide((b"abc",), vocabulary)
    cut = generate(flat, [7], SamplingParams(), max_tokens=2, vocabulary=vocabulary, guide=short)
    assert (cut.text, cut.finish_reason) == ("ab", "length")


def test_forced_choice_has_raw_logprobs():  # 91
    model = MarkovModel(chain(9, {7: {0: 0.0}}, floor=-20.0))
    forced = generate(
        model,
        [7],
        SamplingParams(),
        max_tokens=5,
        vocabulary=[*LETTERS, b""],
        guide=Guide((b"c",), [*LETTERS, b""]),
    )
    assert forced.text == "c" and forced.steps[0].logprob == pytest.approx(-20, abs=1e-6)
    assert forced.steps[0].sampling_logprob == 0


def test_bias_steers_among_choices_but_cannot_leave_them():  # 95
    vocabulary = [*LETTERS, b""]
    guide = Guide((b"ab", b"cd"), vocabulary)
    params = SamplingParams(logit_bias={2: 50.0, 4: 100.0})
    flat = MarkovModel(np.zeros((9, 9), np.float32))
    assert (
        generate(flat, [7], params, max_tokens=5, vocabulary=vocabulary, guide=guide).text == "cd"
    )


def test_a_stop_inside_a_choice_is_refused():  # 96
    guide = Guide((b"abc",), LETTERS)
    flat = MarkovModel(np.zeros((8, 8), np.float32))
    for stops, stop_ids in ((["b"], ()), ([], (1,))):
        with pytest.raises(ValueError, match="inside a guided choice"):
            generate(
                flat,
                [7],
                SamplingParams(stop_ids=stop_ids),
                max_tokens=5,
                vocabulary=LETTERS,
                guide=guide,
                stops=stops,
            )


def test_best_goes_by_the_mean_and_then_by_number():  # 45, 46
    short, long = along(b"a", end=True), along(b"abcdef", end=True)
    assert sum(s.logprob for s in long.steps) < sum(s.logprob for s in short.steps)
    assert best([short, short, short], 2) == [0, 1]
    table = chain(9, {7: {0: 0.0, 1: 0.0}, 1: {2: 0.0}, 2: {8: 0.0}, 0: {8: 0.0}})
    chosen = [
        generate(
            MarkovModel(table),
            [7],
            SamplingParams(temperature=0, logit_bias={first: 1.0}),
            max_tokens=5,
            vocabulary=[*LETTERS, b""],
            eos_ids=[8],
        )
        for first in (0, 1)
    ]
    assert [c.text for c in chosen] == ["a", "bc"]
    # ln 1/2 over two tokens and over three: equal sums, the longer one has the better mean
    assert best(chosen, 2) == [1, 0]


WORDS = [*LETTERS, b"abc", b"\xc3", b"\xa9", b"ga", b"<|end|>"]


@given(jobs(WORDS, eos_ids=(12,)))
@settings(max_examples=200, deadline=None)
def test_a_choice_keeps_the_contract(job):
    guide = job.guide(WORDS, (12,))
    choice = generate(
        MarkovModel(job.table),
        job.prompt_ids,
        job.params,
        max_tokens=job.max_tokens,
        vocabulary=WORDS,
        eos_ids=(12,),
        stops=job.stops,
        guide=guide,
        ignore_eos=job.ignore_eos,
        include_stop=job.include_stop,
    )
    assert len(choice.tokens) == len(choice.steps) <= job.max_tokens
    assert choice.finish_reason == "stop" or len(choice.tokens) == job.max_tokens
    if job.choices and choice.finish_reason == "stop":
        assert choice.text in [c.decode(errors="replace") for c in job.choices]
    if choice.stop_reason is not None:
        assert choice.stop_reason in job.stops
        assert choice.text.endswith(choice.stop_reason) or not job.include_stop
    assert all(np.isfinite(step.logprob) for step in choice.steps)
