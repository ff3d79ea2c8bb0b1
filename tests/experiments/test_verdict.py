"""Scores side by side, and what evidence means: by hand."""

from __future__ import annotations

import math
from typing import Any

import pytest

from toolkit.errors import InvalidRequest
from toolkit.experiments.compare.comparison import Comparison
from toolkit.experiments.compare.evidence import Evidence, Greedy, Sampled, Scored, Tokenised
from toolkit.experiments.compare.scoring import aligned, contradiction, divergence
from toolkit.experiments.forcing import scores
from toolkit.experiments.reading import Token
from toolkit.experiments.statistics import CountTest, KernelTest
from toolkit.experiments.target import Answer

# --- scores ---------------------------------------------------------------------------------------


def token(data: str, logprob: float | None, **top: float) -> Token:
    found = {name.encode(): value for name, value in top.items()}
    return Token(data=data.encode(), id=None, logprob=logprob, top=found, prompt=None)


def test_divergence_by_hand():
    # Over a, b and the rest: 0.5 log(0.5/0.4) + 0.3 log(0.3/0.3) + 0.2 log(0.2/0.3).
    a = {b"a": math.log(0.5), b"b": math.log(0.3)}
    b = {b"a": math.log(0.4), b"b": math.log(0.3), b"c": math.log(0.1)}
    expected = 0.5 * math.log(0.5 / 0.4) + 0.2 * math.log(0.2 / 0.3)
    assert divergence(a, b) == pytest.approx(expected)
    assert divergence(a, a) == 0.0
    assert math.isnan(divergence({b"a": -1.0}, {b"b": -1.0}))


def test_tokens_are_matched_from_the_end_and_only_if_they_are_the_same():
    a = [token("x", None), token("y", -1.0, y=-1.0, z=-0.5), token("z", -2.0, z=-2.0)]
    b = [token("y", -1.5, y=-1.5, q=-0.1), token("z", -9999.0, z=-9999.0)]
    (found,) = aligned(3, a, b)
    assert (found.prompt_index, found.position, found.token) == (3, 1, b"y")
    assert found.difference == -0.5
    assert found.same_best is False
    assert list(aligned(0, a, [token("w", -1.0)])) == []


def test_contradiction_of_own_text():
    forced = [token("p", None), token("a", -1.0), token("b", -2.0), token("c", -3.0)]
    text = [token(t, -1.0) for t in "abc"]
    made = [token("a", -1.25), token("b", -2.0), token("d", -7.0)]
    assert contradiction(forced, text, made) == 0.25
    assert contradiction(None, text, made) == 0.0
    assert contradiction(forced[1:], text, made) == 0.0


class Echoing:
    """Takes a limit of 0 for none, or refuses 1, or has no log-probabilities."""

    def __init__(self, *, refuses: int | None = None, scores: bool = True):
        self.refuses, self.scores = refuses, scores
        self.asked: list[int] = []

    def complete(self, fields: Any) -> Answer:
        self.asked.append(fields["max_tokens"])
        if fields["max_tokens"] == self.refuses:
            raise InvalidRequest("no")
        arrays = {
            "tokens": ["a", "b", "more"],
            "token_logprobs": [None, -1.0, -2.0],
            "top_logprobs": [None, {"b": -1.0}, {"more": -2.0}],
            "text_offset": [0, 1, 2],
        }
        choice = {"index": 0, "text": "abmore", "logprobs": arrays if self.scores else None}
        return Answer(body={"choices": [choice]}, seconds=0.0)


def test_what_was_generated_is_left_out_of_scores():
    found = scores(Echoing(), "ab")
    assert found is not None
    assert [(t.data, t.logprob) for t in found] == [(b"a", None), (b"b", -1.0)]
    # The strict shape leaves the first token out: what is left spells the end.
    assert [t.data for t in scores(Echoing(), "xab") or ()] == [b"a", b"b"]
    assert [t.data for t in scores(Echoing(), [1, 2]) or ()] == [b"a", b"b"]
    full = Echoing(refuses=1)
    assert scores(full, "ab")
    assert full.asked == [1, 0]
    assert scores(Echoing(scores=False), "ab") is None


# --- verdicts -------------------------------------------------------------------------------------


def scored(*pairs: tuple[float, float], best: bool = True) -> tuple[Scored, ...]:
    return tuple(
        Scored(
            prompt_index=0,
            position=i,
            token=b"t",
            logprob_a=a,
            logprob_b=b,
            same_best=best,
            divergence=0.0,
        )
        for i, (a, b) in enumerate(pairs)
    )


def spread(gap: float) -> tuple[Scored, ...]:
    """Forty tokens from -0.1 to -4, apart by `gap`, to either side."""
    return scored(*((-i / 10, -i / 10 + gap * (-1) ** i) for i in range(1, 41)))


def greedy(*, gap: float = math.nan, same: bool = True) -> Greedy:
    return Greedy(
        prompt_index=0,
        agreed=3,
        length_a=4,
        length_b=4,
        same=same,
        gap=gap,
        text_a="a",
        text_b="b",
    )


def sampled(setting: str, p: float) -> Sampled:
    kernel = KernelTest(p=p, effect=0.1, prompts=1, samples=4, by_prompt=(0.1,))
    count = CountTest(p=1.0, effect=0.0, exact=True, categories=2)
    texts = ((("a", "b"), ("a", "b")),)
    return Sampled(
        setting=setting, fields_a={}, fields_b={}, texts=texts, kernel=kernel, counts=(count,)
    )


def tokenised(a: list[int] | None, b: list[int] | None, *used: int) -> Tokenised:
    counts = dict(zip(("used_a", "used_b"), used, strict=False))
    return Tokenised(prompt="p", ids_a=a, ids_b=b, **counts)


def found(**seen: Any) -> Comparison:
    fields = {"name_a": "A", "name_b": "B", "prompts": ("p",), "alpha": 0.001}
    return Comparison(Evidence(**{**fields, **seen}))


CASES: dict[str, tuple[dict[str, Any], list[str]]] = {
    "nothing": ({}, []),
    "the last bits": ({"scored": spread(1e-6)}, []),
    "bfloat16": ({"scored": spread(0.02)}, ["dtype"]),
    "four bits": ({"scored": spread(0.2)}, ["quantised weights"]),
    "another model": ({"scored": spread(2.0)}, ["other model"]),
    "another best token": (
        {"scored": tuple(scored((-1.0, -1.05), best=False)) * 40},
        ["other model"],
    ),
    "bos": ({"tokenised": (tokenised([5], [1, 5]),)}, ["bos"]),
    "no bos": ({"tokenised": (tokenised([1, 5], [5]),)}, ["bos"]),
    "bos by counts": ({"tokenised": (tokenised([5], [5], 1, 2),)}, ["bos"]),
    "chat": ({"tokenised": (tokenised([5], [5], 1, 21),)}, ["template"]),
    "chat as ids": ({"tokenised": (tokenised([5], [1, 2, 3, 4, 5]),)}, ["template"]),
    "tokenizer": ({"tokenised": (tokenised([5, 6], [7]),)}, ["tokenizer"]),
    "hidden bos": ({"scored": spread(0.0), "as_text": spread(0.5), "lead": 1}, ["bos"]),
    "hidden template": ({"scored": spread(0.0), "as_text": spread(0.5)}, ["template"]),
    "not greedy": (
        {"scored": spread(0.0), "greedy": (greedy(same=False, gap=0.5),)},
        ["greedy"],
    ),
    "a tie": ({"scored": spread(1e-5), "greedy": (greedy(same=False, gap=5e-5),)}, []),
    "echo": ({"contradicting": {"B": 0.2}}, ["echo scores"]),
    "settings": ({"settings_differ": ("temperature (1 and 2)",)}, ["settings"]),
    "defaults": (
        {"sampled": (sampled("plain", 0.5), sampled("defaults", 1e-5))},
        ["defaults"],
    ),
    "top_p": ({"sampled": (sampled("plain", 0.5), sampled("top_p", 1e-5))}, ["top_p"]),
    "sampler": ({"sampled": (sampled("plain", 1e-5), sampled("top_p", 1e-5))}, ["sampling"]),
    "not significant": ({"sampled": (sampled("plain", 6e-4), sampled("top_p", 6e-4))}, []),
}


@pytest.mark.parametrize("name", CASES)
def test_causes(name: str):
    seen, causes = CASES[name]
    assert found(**seen).causes == causes, found(**seen).verdict


def test_the_bos_is_named_by_its_id():
    seen = found(tokenised=(tokenised([5, 6], [1, 5, 6]), tokenised([7], [1, 7])))
    assert "1 token more for every prompt, a BOS is put in front, id 1" in seen.verdict


def test_what_follows_from_a_cause_is_no_cause_of_its_own():
    seen = found(
        scored=spread(0.2),
        greedy=(greedy(same=False, gap=1.0),),
        sampled=(sampled("plain", 1e-5),),
    )
    assert seen.causes == ["quantised weights", "sampling"]
    assert "samples differ as well" in seen.verdict


def test_few_scores_are_not_enough_to_name_a_cause():
    assert found(scored=spread(0.2)[:5], greedy=(greedy(),)).causes == ["scores"]
    apart = {"scored": spread(0.2)[:1], "greedy": (greedy(same=False, gap=5.0),) * 3}
    assert found(**apart).causes == ["other model"]


def test_an_alarm_counts_all_tests_of_its_family():
    # Holm over two settings, doubled for two families: 2 * 2 * 0.0002 is below 0.001, and the
    # same with 0.0003 is not.
    for p, alarm in ((2e-4, True), (3e-4, False)):
        seen = found(sampled=(sampled("plain", p), sampled("top_p", 0.9)))
        assert ("sampling" in seen.causes) is alarm
        assert seen.tests["p_corrected"].iloc[0] == pytest.approx(4 * p)
