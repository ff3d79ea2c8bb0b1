"""Section 6, cases 82 to 88: what changes the draw, and by how much."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy import stats

from tests.contract.surfaces import record_of, strict_answer
from tests.contract.toys import SIZE, ids
from tests.oracle.sampler import softmax
from tests.oracle.toy import MarkovModel
from toolkit.completion.complete import LM
from toolkit.models.compiler import jit
from toolkit.sampling.guide import pack
from toolkit.sampling.params import Report, Rows, SamplingParams
from toolkit.sampling.sample import sample
from toolkit.sampling.transforms import History
from toolkit.sampling.variant import Variant

LA, DI = ids(b"la", b" di")


def tokens(lm: LM, prompt: Any, **fields: Any) -> list[list[int]]:
    return [[t.id for t in choice.tokens] for choice in record_of(lm, prompt, **fields).choices]


def first(lm: LM, count: int, prompt: Any = "P", **fields: Any) -> list[str]:
    """The first tokens of `count` candidates."""
    fields = {"n": count, "max_tokens": 1, "seed": 5, **fields}
    return [choice["text"] for choice in strict_answer(lm, prompt, **fields)["choices"]]


def test_case_82_a_bias_of_100_decides(toy: LM, model: MarkovModel):
    always = {"logit_bias": {str(ord("z")): 100}, "max_tokens": 5}
    for temperature in (0, 1):
        (found,) = tokens(toy, "q", temperature=temperature, seed=3, **always)
        assert found == [ord("z")] * 5
    best = int(np.argmax(model.table[ord("q")]))
    assert tokens(toy, "q", temperature=0, max_tokens=1) == [[best]]
    never = {"logit_bias": {str(best): -100}, "max_tokens": 1}
    second = int(np.argsort(-model.table[ord("q")])[1])
    assert tokens(toy, "q", temperature=0, **never) == [[second]]
    assert [best] not in tokens(toy, "q", n=100, seed=3, **never)


def test_case_82_a_bias_is_added_and_no_more(toy: LM):
    # log .2 + log 2 against log .3 and log .5: .4, .3, .5
    biased = {"logit_bias": {str(ids(b"zz")[0]): float(np.log(2.0))}}
    assert first(toy, 1, temperature=0, **biased) == ["xx"]
    biased["logit_bias"][str(ids(b"zz")[0])] = float(np.log(3.0))
    assert first(toy, 1, temperature=0, **biased) == ["zz"]


def test_case_83_a_frequency_penalty_breaks_repetition(toy: LM):
    fields = {"temperature": 0, "max_tokens": 6}
    assert tokens(toy, "O", **fields) == [[LA] * 6]
    # Logits 3 and 0: after two "la" they are -1 and 0, then -3 and -2 after a third.
    expected = [LA, LA, DI, LA, DI, LA]
    assert tokens(toy, "O", frequency_penalty=2, **fields) == [expected]
    prompt = [*[LA] * 20, ord("O")]
    assert tokens(toy, prompt, frequency_penalty=2, **fields) == [expected]


def test_case_84_a_presence_penalty_counts_once(toy: LM):
    fields = {"temperature": 0, "max_tokens": 6}
    assert tokens(toy, "O", presence_penalty=2, **fields) == [[LA] * 6]  # 3 - 2 > 0, always
    both = {"presence_penalty": 2, "frequency_penalty": 2}
    assert tokens(toy, "O", **both, **fields)[0][:2] == [LA, DI]  # 3 - 2 - 2 < 0


def test_case_85_penalties_stay_with_their_choice(toy: LM):
    fields = {"temperature": 0, "max_tokens": 6, "frequency_penalty": 2}
    (alone,) = tokens(toy, "O", **fields)
    assert tokens(toy, ["O", "O", "xO"], n=3, **fields) == [alone] * 9
    drawn = {"max_tokens": 12, "frequency_penalty": 2, "presence_penalty": 1, "seed": 2}
    together = tokens(toy, ["q", "r"], n=3, **drawn)
    assert together == [*tokens(toy, "q", n=3, **drawn), *tokens(toy, "r", n=3, **drawn)]


def test_case_86_top_p_keeps_the_smallest_set(toy: LM):
    assert set(first(toy, 128, top_p=0.5)) == {"xx"}
    assert set(first(toy, 128, top_p=0.51)) == {"xx", "yy"}
    assert set(first(toy, 128, top_p=0.79)) == {"xx", "yy"}
    assert set(first(toy, 128, top_p=0.81)) == {"xx", "yy", "zz"}


def test_case_86_top_p_cuts_the_tempered_distribution(toy: LM):
    # At T = 2 the square roots of .5, .3, .2 share out as .416, .322, .263.
    assert set(first(toy, 128, top_p=0.45, temperature=2)) == {"xx", "yy"}
    assert set(first(toy, 128, top_p=0.45, temperature=1)) == {"xx"}


def test_case_87_extreme_temperatures(toy: LM):
    cold = {"max_tokens": 30, "logprobs": True}
    greedy = strict_answer(toy, "q", temperature=0, **cold)["choices"]
    assert strict_answer(toy, "q", temperature=1e-7, seed=1, **cold)["choices"] == greedy
    warm = record_of(toy, "q", temperature=2, seed=1, n=8, max_tokens=30)
    assert all(np.isfinite(t.logprob) for c in warm.choices for t in c.tokens)


SEEDS = 10_000


@pytest.mark.parametrize("temperature", [1.0, 2.0, 0.5])
def test_case_88_first_tokens_follow_the_distribution(
    toy: LM, model: MarkovModel, temperature: float
):
    """Chi-square over the letters a to h; p < 1e-6 comes once in a million runs of another seed."""
    drawn = first_tokens(model.table[ord("W")], temperature)
    assert drawn[:100].tolist() == [
        tokens(toy, "W", seed=seed, max_tokens=1, temperature=temperature)[0][0]
        for seed in range(100)
    ]
    letters = np.arange(ord("a"), ord("i"))
    assert np.isin(drawn, letters).all()
    expected = softmax(model.table[ord("W"), letters].astype(np.float64), temperature) * SEEDS
    likely = expected >= 5
    counts = np.asarray([(drawn == letter).sum() for letter in letters])
    observed = [*counts[likely], counts[~likely].sum()]
    expected = [*expected[likely], expected[~likely].sum()]
    if likely.all():
        observed, expected = observed[:-1], expected[:-1]
    assert stats.chisquare(observed, np.asarray(expected) * SEEDS / np.sum(expected)).pvalue > 1e-6


def first_tokens(logits: np.ndarray, temperature: float) -> np.ndarray:
    """What the engine's sampler draws first for the seeds 0 .. 9,999, in one batch."""
    rows = Rows.stack(
        [SamplingParams(seed=seed, temperature=temperature) for seed in range(SEEDS)],
        [Report()] * SEEDS,
    )
    history = History(
        step=np.zeros(SEEDS, np.int32),
        counts=np.zeros((SEEDS, SIZE), np.int32),
        prompted=np.zeros((SEEDS, SIZE), np.bool_),
        node=np.zeros(SEEDS, np.int32),
    )
    tables, _ = pack([])
    batch = np.broadcast_to(logits, (SEEDS, SIZE))
    return np.asarray(jit(sample, static_argnums=4)(batch, rows, history, tables, Variant()).token)


def test_case_88_candidates_follow_it_too(toy: LM, model: MarkovModel):
    """The same for 4,096 candidates of 32 seeds, which are drawn by the engine itself."""
    found = [text for seed in range(32) for text in first(toy, 128, seed=seed)]
    counts = [found.count(name) for name in ("xx", "yy", "zz")]
    assert sum(counts) == 4096
    assert stats.chisquare(counts, np.asarray([0.5, 0.3, 0.2]) * 4096).pvalue > 1e-6
