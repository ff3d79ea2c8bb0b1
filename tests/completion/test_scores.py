"""Scores of given texts and choices on the real model."""

from __future__ import annotations

import math

import pytest

from toolkit.completion.request import Limits
from toolkit.errors import InvalidRequest


def test_score_choices_is_the_tail_of_the_whole_text(lm):
    ((paris, rome),) = lm.score_choices("The capital of France is", [" Paris", " Rome, Italy"])
    whole = lm.score("The capital of France is Rome, Italy")[0]
    assert paris.logprob > rome.logprob
    assert paris.greedy and not rome.greedy
    assert len(rome.tokens) == 3
    expected = math.fsum(t.logprob for t in whole.tokens[-3:])
    assert rome.logprob == pytest.approx(expected, abs=1e-4)
    assert rome.mean_logprob == pytest.approx(expected / 3, abs=1e-4)


def test_each_prompt_may_have_its_own_choices(lm):
    prompts = ["2 + 2 =", "The sky is", "Nothing"]
    scored = lm.score_choices(prompts, [[" 4"], [" blue", " green", " red"], []])
    assert [[c.choice for c in group] for group in scored] == [
        [" 4"],
        [" blue", " green", " red"],
        [],
    ]


def test_choose_and_score_choices_agree(lm):
    choices = [" Paris", " London"]
    exact = lm.choose("The capital of France is", choices)
    (scored,) = lm.score_choices("The capital of France is", choices)
    for a, b in zip(exact, scored, strict=True):
        assert a.logprob == pytest.approx(b.logprob, abs=1e-5)
        assert a.logprob_sum is not None and a.logprob_sum >= a.logprob
    assert sum(c.share for c in exact) == pytest.approx(1)


@pytest.mark.parametrize(
    "choices",
    [None, 5, ["\ud800", "b"], "abc", [["a"]], [["a"], "b"], [["a"], [1]], [["a"], [""]], []],
)
def test_choices_that_do_not_fit_are_refused(lm, choices):
    with pytest.raises(InvalidRequest, match="`choices`") as refused:
        lm.score_choices(["x", "y"], choices)
    assert refused.value.param == "choices"


def test_more_texts_than_a_request_may_hold_can_be_scored(lm, monkeypatch):
    monkeypatch.setattr(lm, "limits", Limits(max_sequences=2))
    scored = lm.score([[7, 5], [8, 5], [7, 5]])
    assert len(scored) == 3
    assert scored[0].tokens[1].logprob == scored[2].tokens[1].logprob


def test_a_long_choice_is_scored_by_its_own_tokens_alone(lm):
    """It has more tokenisations than can be listed; counting them does not list them."""
    choice = " Paris, the city of light and love, on the Seine river"
    (found,) = lm.choose("The capital is", [choice])
    assert found.logprob_sum is None
    (scored,) = lm.score_choices("The capital is", [choice])[0]
    assert found.logprob == pytest.approx(scored.logprob, abs=1e-5)
