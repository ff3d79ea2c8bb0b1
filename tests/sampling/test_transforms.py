"""Each transform against exact probabilities, then against the oracle on large vocabularies."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np
import pytest

from tests.oracle.sampler import distribution
from tests.oracle.strategies import logits as some_logits
from tests.sampling.batches import apply, each, gather, history_of, one_of, rows_of
from toolkit.models.compiler import jit
from toolkit.sampling.guide import pack
from toolkit.sampling.params import SamplingParams
from toolkit.sampling.smallest import CANDIDATES, smallest_set
from toolkit.sampling.vocabulary import largest

THIRDS = np.log([0.5, 0.3, 0.2]) - np.log(0.5)
"""Probabilities .5 .3 .2, with the largest logit 0 as truncations expect it. The first is exactly
half of the mass in float32 too."""


def kept(name: str, logits: Any, *params: SamplingParams) -> list[list[int]]:
    """The ids that a stage leaves in each row."""
    return [np.flatnonzero(row > -np.inf).tolist() for row in apply(name, logits, *params)]


# Bias and penalties


def test_logit_bias_is_added_to_its_ids_only():  # contract 82
    out = apply(
        "logit_bias",
        [1.0, 2.0, 3.0],
        SamplingParams(),
        SamplingParams(logit_bias={1: 100.0}),
        SamplingParams(logit_bias={2: -100.0, 0: 0.5}),
    )
    assert out.tolist() == [[1, 2, 3], [1, 102, 3], [1.5, 2, -97]]


def test_logit_bias_revives_nothing_that_the_model_rules_out():
    out = apply("logit_bias", [0.0, -np.inf], SamplingParams(logit_bias={1: 100.0}))
    assert out.tolist() == [[0, -np.inf]]


def test_more_biases_than_the_smallest_bucket():
    out = apply(
        "logit_bias", np.zeros(600), SamplingParams(logit_bias=dict.fromkeys(range(599), 2))
    )
    assert out[0].tolist() == [2.0] * 599 + [0.0]


def test_frequency_penalty_counts_and_presence_penalty_does_not():  # contract 83, 84
    params = SamplingParams(frequency_penalty=0.5, presence_penalty=0.25)
    history = history_of(4, [[1, 1, 1, 2]] * 2, [[0]] * 2)
    out = apply("penalties", [1.0] * 4, params, SamplingParams(), history=history)
    assert out.tolist() == [[1, -0.75, 0.25, 1], [1, 1, 1, 1]]


def test_repetition_penalty_sees_prompt_and_completion_and_comes_first():
    params = SamplingParams(repetition_penalty=2.0, frequency_penalty=1.0)
    history = history_of(4, [[1]], [[0, 2]])
    out = apply("penalties", [6.0, 2.0, -2.0, 2.0], params, history=history)
    assert out.tolist() == [[3, 0, -4, 2]]  # 6 / 2; 2 / 2 - 1; -2 * 2; untouched


# Masks


def test_guide_keeps_what_leads_to_a_choice():  # contract 95
    tables, (start,) = pack([one_of([1, 3])])
    history = history_of(4, [(), ()], nodes=[start, 0])
    out = apply(
        "guide", [9.0, 1.0, 5.0, 2.0], *[SamplingParams()] * 2, history=history, tables=tables
    )
    assert out.tolist() == [[-np.inf, 1, -np.inf, 2], [9, 1, 5, 2]]


def test_guide_makes_choices_equal_that_the_model_rules_out():
    tables, (start,) = pack([one_of([1, 3])])
    logits = [0.0, -np.inf, 0.0, -np.inf]
    out = apply(
        "guide", logits, SamplingParams(), history=history_of(4, [()], nodes=[start]), tables=tables
    )
    assert out.tolist() == [[-np.inf, 0, -np.inf, 0]]


def test_min_tokens_holds_stop_ids_back_until_there_are_enough():
    params = SamplingParams(min_tokens=2, stop_ids=(0, 3))
    history = history_of(4, [(), (1,), (1, 1)])
    out = apply("min_tokens", [9.0, 1.0, 5.0, 8.0], *[params] * 3, history=history)
    assert out.tolist() == [[-np.inf, 1, 5, -np.inf]] * 2 + [[9, 1, 5, 8]]


@pytest.mark.parametrize("logits", [[1.0, 2.0], [1.0, -np.inf]])
def test_min_tokens_gives_way_where_stop_ids_are_all_there_is(logits):
    ids = (0, 1) if np.isfinite(logits[1]) else (0,)
    out = apply("min_tokens", logits, SamplingParams(min_tokens=5, stop_ids=ids))
    assert out.tolist() == [logits]


# Temperature


def test_temperature_divides_what_is_left_of_the_largest():
    out = apply("temperature", [1.0, 3.0, 2.0], *each("temperature", 1.0, 0.5, 2.0, 0.0))
    assert out.tolist() == [[-2, 0, -1], [-4, 0, -2], [-1, 0, -0.5], [-2, 0, -1]]


@pytest.mark.parametrize("value", [1e-7, 1e-30, 2e-38])
def test_a_tiny_temperature_is_finite_or_minus_infinity(value):  # contract 87
    out = apply("temperature", [30.0, 30.0, -1e4, -np.inf], *each("temperature", value))
    assert not np.isnan(out).any() and out[0, :2].tolist() == [0, 0]
    assert (np.exp(out[0, 2:]) == 0).all()


def test_a_temperature_below_the_smallest_normal_float_is_zero():
    assert rows_of(*each("temperature", 1e-39)).temperature.tolist() == [0]
    assert kept("greedy", [0.0, 0.0, -1.0], *each("temperature", 1e-39)) == [[0]]


def test_zero_temperature_takes_the_lowest_id_among_the_largest():
    assert kept("greedy", [-1.0, 0.0, 0.0], *each("temperature", 0.0, 1e-7)) == [[1], [0, 1, 2]]


# Truncation of three


def test_top_k_of_three():
    assert kept("top_k", THIRDS, *each("top_k", 0, 1, 2, 3, 4, 2**31 - 1)) == [
        [0, 1, 2],
        [0],
        [0, 1],
        *[[0, 1, 2]] * 3,
    ]


def test_top_p_of_three():  # contract 86
    values = (0.0, 0.5, 0.51, 0.79, 0.81, 1.0)
    assert kept("top_p", THIRDS, *each("top_p", *values)) == [
        [0],
        [0],
        [0, 1],
        [0, 1],
        [0, 1, 2],
        [0, 1, 2],
    ]


def test_min_p_of_three():  # shares of the largest: 1, .6, .4
    values = (0.0, 0.39, 0.41, 0.59, 0.61, 1.0)
    assert [len(ids) for ids in kept("min_p", THIRDS, *each("min_p", *values))] == [
        3,
        3,
        2,
        2,
        1,
        1,
    ]


def test_typical_p_of_three():
    # entropy 1.0297; surprises .6931 1.2040 1.6094; distances .3366 .1743 .5797
    values = (0.0, 0.29, 0.31, 0.79, 0.81, 1.0)
    assert kept("typical_p", THIRDS, *each("typical_p", *values)) == [
        [1],
        [1],
        [0, 1],
        [0, 1],
        [0, 1, 2],
        [0, 1, 2],
    ]


def test_the_mass_that_is_left_is_shared_anew():
    out = apply("top_p", THIRDS, *each("top_p", 0.6))
    np.testing.assert_allclose(np.exp(out) / np.exp(out).sum(), [[5 / 8, 3 / 8, 0]], rtol=1e-6)


def test_equal_logits_at_a_boundary_go_to_the_lower_id():
    assert kept("top_k", [-1.0, 0, 0, 0], *each("top_k", 2)) == [[1, 2]]
    assert kept("top_p", [0.0] * 4, *each("top_p", 0.5, 0.0)) == [[0, 1], [0]]
    assert kept("typical_p", [0.0] * 4, *each("typical_p", 0.75)) == [[0, 1, 2]]


# Large vocabularies: more than the candidates are kept, or the boundary lies among equals


def test_equal_logits_beyond_the_candidates_go_to_the_lower_id():
    flat = np.zeros(1500)
    assert kept("top_k", flat, *each("top_k", 200)) == [list(range(200))]
    assert kept("top_p", flat, *each("top_p", 0.5, 0.0)) == [list(range(750)), [0]]
    assert kept("typical_p", flat, *each("typical_p", 0.5)) == [list(range(750))]
    holes = np.where(np.arange(1500) % 2, 0.0, -np.inf)
    assert kept("top_k", holes, *each("top_k", 300, 1000)) == [
        list(range(1, 600, 2)),
        list(range(1, 1500, 2)),
    ]
    assert kept("top_p", holes, *each("top_p", 0.5)) == [list(range(1, 750, 2))]


def test_a_boundary_among_equals_behind_a_larger_group():
    steps = np.repeat([0.0, -1.0, -2.0], 500)[np.random.default_rng(0).permutation(1500)]
    best, second = np.flatnonzero(steps == 0), np.flatnonzero(steps == -1)
    assert kept("top_k", steps, *each("top_k", 501, 700)) == [
        sorted([*best, second[0]]),
        sorted([*best, *second[:200]]),
    ]


def test_rows_that_need_the_bisection_and_rows_that_do_not():
    logits = np.zeros((3, 1500))
    logits[0] = -np.arange(1500) / 10
    logits[2, 5] = 50
    logits -= logits.max(axis=1, keepdims=True)
    assert [len(ids) for ids in kept("top_p", logits, *each("top_p", 0.9, 0.9, 0.9))] == [
        24,
        1350,
        1,
    ]


def mask_of(keys, mass, target, *, guarded=True):
    """The smallest set as a mask."""
    leaders = largest(keys, CANDIDATES)
    edge = smallest_set(lambda data: data, (keys, mass), target, leaders, guarded=guarded)
    return edge.keeps(keys, jax.numpy.arange(keys.shape[1])[None, :])


@pytest.mark.parametrize("guarded", [True, False])
@pytest.mark.parametrize("vocab_size", [7, 300])
def test_smallest_set_by_brute_force(vocab_size, guarded):
    rng = np.random.default_rng(vocab_size)
    keys = rng.integers(-3, 3, (64, vocab_size)) / 2
    keys[:32] += rng.random((32, vocab_size))
    keys[keys == 0] = rng.choice([-0.0, 0.0], (keys == 0).sum())
    mass = rng.integers(0, 4, (64, vocab_size)) / 1024  # sums are exact
    target = rng.integers(0, 3 * vocab_size // 2, 64) / 1024
    found = jit(mask_of, static_argnames="guarded")(
        *(x.astype(np.float32) for x in (keys, mass, target)), guarded=guarded
    )
    for row in range(64):
        order = np.argsort(-keys[row], kind="stable")
        count = 1 + int((np.cumsum(mass[row][order]) < target[row]).sum())
        assert set(np.flatnonzero(found[row])) == set(order[:count])


TRUNCATIONS = {
    "top_k": (1, 2, 5, 127, 128, 129, 300, 2000),
    "top_p": (0.0, 1e-7, 0.25, 0.5, 0.9, 0.99, 0.999, 1 - 2**-24),
    "min_p": (2**-20, 1e-4, 0.01, 0.1, 0.25, 0.5, 0.9, 1.0),
    "typical_p": (0.0, 1e-7, 0.25, 0.5, 0.9, 0.95, 0.99, 1 - 2**-24),
}


@pytest.mark.parametrize("vocab_size", [5, 11, 300, 600, 1500])
@pytest.mark.parametrize("name", TRUNCATIONS)
def test_truncations_keep_what_the_oracle_keeps(name, vocab_size):
    certain = 0
    params = each(name, *TRUNCATIONS[name])
    found = gather(some_logits(vocab_size), 40)
    for values in found:
        logits = (values - values.max()).astype(np.float32)
        rows = apply(name, logits, *params)
        for row, asked in zip(rows, params, strict=True):
            d = distribution(logits, asked)
            if d.margin > d.noise:
                certain += 1
                expected = [by is None for by in d.dropped_by]
                finite = np.isfinite(logits)
                np.testing.assert_array_equal((row > -np.inf)[finite], np.array(expected)[finite])
                np.testing.assert_array_equal(row[row > -np.inf], logits[row > -np.inf])
    assert certain > 0.8 * len(found) * len(params)
