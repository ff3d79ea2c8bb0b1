"""What is reported about a token: logprob, rank, entropy and alternatives, all the model's own."""

from __future__ import annotations

import math

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.oracle import sampler as oracle
from tests.oracle.strategies import logits as some_logits
from tests.sampling.batches import compiled, gather, history_of, no_guide, rows_of
from toolkit.models.compiler import jit
from toolkit.sampling.logprobs import Scored, rank_of, score
from toolkit.sampling.params import Report, SamplingParams
from toolkit.sampling.variant import Variant
from toolkit.sampling.vocabulary import largest

ROWS = 32
ranks = jit(rank_of)


@jit
def scored_with_top(logits, token):
    return score(logits, token, top_ids=largest(logits, min(20, logits.shape[1]))[1], details=True)


def scored(logits, token) -> Scored:
    """Scores of tokens `[B]` in logits `[B, V]`, with up to 20 alternatives."""
    return jax.device_get(
        scored_with_top(np.asarray(logits, np.float32), np.asarray(token, np.int32))
    )


def test_numbers_of_a_known_distribution():
    found = scored(np.log([[0.5, 0.3, 0.2]] * 3), [0, 1, 2])
    np.testing.assert_allclose(np.exp(found.logprob), [0.5, 0.3, 0.2], rtol=1e-6)
    assert found.rank.tolist() == [1, 2, 3]
    # -(.5 ln .5 + .3 ln .3 + .2 ln .2) = 1.02965
    np.testing.assert_allclose(found.entropy, [1.0296530] * 3, rtol=1e-6)
    assert found.top_ids.tolist() == [[0, 1, 2]] * 3
    np.testing.assert_allclose(np.exp(found.top_logprobs), [[0.5, 0.3, 0.2]] * 3, rtol=1e-6)


@pytest.mark.parametrize("vocab_size", [5, 300, 1500])
def test_scores_are_the_oracles(vocab_size):
    rows = gather(some_logits(vocab_size), 8 * ROWS)
    rng = np.random.default_rng(0)
    for start in range(0, len(rows) - ROWS + 1, ROWS):
        logits = np.stack(rows[start : start + ROWS])
        finite = [rng.choice(np.flatnonzero(np.isfinite(row))) for row in logits]
        found = scored(logits, finite)
        for row, (values, token) in enumerate(zip(logits.astype(np.float64), finite, strict=True)):
            logprobs, places = oracle.log_softmax(values), oracle.rank(values)
            top = np.argsort(places)[:20]
            near = {"rtol": 1e-6, "atol": 1e-5}
            np.testing.assert_allclose(found.logprob[row], logprobs[token], **near)
            assert found.rank[row] == places[token]
            entropy = oracle.entropy(np.exp(logprobs))
            np.testing.assert_allclose(found.entropy[row], entropy, rtol=1e-5, atol=1e-5)
            np.testing.assert_array_equal(found.top_ids[row], top)
            np.testing.assert_allclose(found.top_logprobs[row], logprobs[top], **near)


def test_a_common_offset_of_the_logits_costs_no_digits():
    # Differences of 1 at 8192 are exact in float32; ln(1 + e^-1 + e^-2) = 0.4076060
    found = scored([[8192.0, 8191.0, 8190.0], [0.0, -1.0, -2.0]], [1, 1])
    np.testing.assert_allclose(found.logprob, [-1.4076060] * 2, rtol=1e-6)
    assert found.logprob[0] == found.logprob[1]


def test_the_chosen_token_and_its_entry_among_the_alternatives_are_the_identical_float():
    logits = np.random.default_rng(1).normal(0, 9, (64, 300)).astype(np.float32)
    found = scored(logits, logits.argmax(axis=1))
    np.testing.assert_array_equal(found.logprob, found.top_logprobs[:, 0])


def test_rank_and_alternatives_give_equal_logits_to_the_lower_id():
    found = scored([[1.0, 2.0, 1.0, 2.0, -0.0, 0.0]] * 6, range(6))
    assert found.rank.tolist() == [3, 1, 4, 2, 5, 6]
    assert found.top_ids[0].tolist() == [1, 3, 0, 2, 4, 5]


def test_ids_that_the_model_rules_out():  # contract 77
    found = scored([[0.0, -np.inf, 0.0]] * 3, [0, 1, 2])
    assert found.logprob.tolist() == pytest.approx([-math.log(2), -np.inf, -math.log(2)])
    assert found.rank.tolist() == [1, 3, 2]
    np.testing.assert_allclose(found.entropy, [math.log(2)] * 3, rtol=1e-6)
    assert not np.isnan(found.top_logprobs).any()


def test_all_logprobs_sum_to_one():  # contract 73
    logits = np.random.default_rng(2).normal(0, 3, (1, 600)).astype(np.float32)
    every = scored(np.repeat(logits, 600, axis=0), range(600))
    assert np.exp(every.logprob.astype(np.float64)).sum() == pytest.approx(1, abs=1e-5)


@given(st.lists(st.integers(-3, 3), min_size=7, max_size=7), st.integers(0, 6))
@settings(max_examples=100)
def test_rank_counts_what_comes_before(values, token):
    row = np.asarray([values], np.float32)
    before = sum((v, -i) > (values[token], -token) for i, v in enumerate(values))
    assert np.asarray(ranks(row, np.asarray([token], np.int32))).tolist() == [1 + before]


def test_logprobs_do_not_change_with_the_sampling_parameters():  # contract 72
    logits = np.tile(np.random.default_rng(3).normal(size=300).astype(np.float32), (4, 1))
    forced = {7: 100.0}
    params = [
        SamplingParams(logit_bias=forced),
        SamplingParams(logit_bias=forced, temperature=0.0, frequency_penalty=2.0),
        SamplingParams(logit_bias=forced, top_k=1, repetition_penalty=1.5),
        SamplingParams(logit_bias=forced, top_p=0.5, min_p=0.5, typical_p=0.9, presence_penalty=-2),
    ]
    history = history_of(300, [[7]] * 4)
    drawn = jax.device_get(compiled(logits, rows_of(*params), history, no_guide(), Variant()))
    assert drawn.token.tolist() == [7] * 4
    for name in ("logprob", "rank", "entropy", "top_logprobs"):
        values = getattr(drawn.scored, name)
        np.testing.assert_array_equal(values, np.broadcast_to(values[:1], values.shape))


def test_bias_and_penalty_are_what_was_added_and_what_was_taken_off():
    logits = np.zeros((3, 300), np.float32)
    params = [
        SamplingParams(logit_bias={9: 60.0}, frequency_penalty=1.5, presence_penalty=0.25),
        SamplingParams(logit_bias={9: 60.0}, repetition_penalty=2.0),
        SamplingParams(logit_bias={9: 60.0}),
    ]
    history = history_of(300, [[9, 9], [], []], [[], [9], [9]])
    drawn = jax.device_get(compiled(logits, rows_of(*params), history, no_guide(), Variant()))
    assert drawn.token.tolist() == [9] * 3 and drawn.bias.tolist() == [60] * 3
    assert drawn.penalty.tolist() == [3.25, 30, 0]  # 2 * 1.5 + .25; 60 - 60 / 2


def test_alternatives_by_the_distribution_drawn_from():
    logits = np.log(np.tile([0.5, 0.3, 0.2], (2, 1))).astype(np.float32)
    params = [SamplingParams(logit_bias={2: math.log(5)}, temperature=0.5)] * 2
    drawn = [
        jax.device_get(
            compiled(
                logits,
                rows_of(*params, report=Report(top=3, processed=processed)),
                history_of(3, [()] * 2),
                no_guide(),
                Variant(),
            )
        )
        for processed in (False, True)
    ]
    assert [d.scored.top_ids[0].tolist() for d in drawn] == [[0, 1, 2], [2, 0, 1]]
    # .5 .3 1.0 squared: .25 .09 1.0 of 1.34, whichever order they are shown in
    for d in drawn:
        shares = np.exp(d.top_sampling_logprobs[0])[np.argsort(d.scored.top_ids[0])]
        np.testing.assert_allclose(shares, np.array([0.25, 0.09, 1]) / 1.34, rtol=1e-5)
        own = np.exp(d.scored.top_logprobs[0])[np.argsort(d.scored.top_ids[0])]
        np.testing.assert_allclose(own, [0.5, 0.3, 0.2], rtol=1e-6)
