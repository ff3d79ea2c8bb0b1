"""The sampler with compiled kernels: against the float64 oracle, bit by bit in every company."""

from __future__ import annotations

import dataclasses
import itertools
import operator
from typing import Any

import jax
import numpy as np
import pytest

from tests.oracle.strategies import cases
from tests.sampling.batches import compiled, draw_cases, each, gather, history_of, no_guide, rows_of
from tests.sampling.test_against_oracle import SIZES, compare
from toolkit import kernels
from toolkit.models.compiler import jit
from toolkit.sampling.drawn import Drawn
from toolkit.sampling.params import Report, SamplingParams
from toolkit.sampling.sample import sample
from toolkit.sampling.variant import Variant

OPERATIONS = ("moments", "draw", "count", "largest")
ROWS = 64


def with_kernels(*arguments: Any) -> Drawn:
    with kernels.using(*OPERATIONS):
        return sample(*arguments)


by_kernels = jit(with_kernels, static_argnums=4)


@pytest.mark.parametrize("vocab_size", SIZES)
def test_thousands_of_positions(vocab_size):
    compare(vocab_size, 10 * ROWS, Variant(), by_kernels)


@pytest.mark.slow
@pytest.mark.parametrize("vocab_size", SIZES)
def test_tens_of_thousands_of_positions(vocab_size):
    compare(vocab_size, 100 * ROWS, Variant(), by_kernels)


def drawn(logits: Any, params: list[SamplingParams], seen: Any = None) -> Drawn:
    history = seen or history_of(logits.shape[1], [()] * len(params))
    return jax.device_get(by_kernels(logits, rows_of(*params), history, no_guide(), Variant()))


def test_a_row_has_the_same_bits_in_every_company():
    batch = gather(cases(600), ROWS)
    together = draw_cases(batch, Variant(), program=by_kernels)
    for size in (1, 7, 16, 32):
        some = draw_cases(batch[:size], Variant(), program=by_kernels)
        for mine, whole in zip(jax.tree.leaves(some), jax.tree.leaves(together), strict=True):
            np.testing.assert_array_equal(mine, whole[:size])


@pytest.mark.parametrize("top", [20, 65, 160])
def test_alternatives_equal_those_of_xla(top):
    """The kernel finds a few, XLA more of them. Rows differ in what they want to know."""
    batch = gather(cases(300), ROWS)
    asked = itertools.product((5, top), (False, True), (False, True))
    kinds = [Report(top=n, details=details, processed=some) for n, details, some in asked]
    reports = [*kinds, Report()] * ROWS
    mine = draw_cases(batch, Variant(top=top), reports[:ROWS], program=by_kernels)
    theirs = draw_cases(batch, Variant(top=top), reports[:ROWS])
    np.testing.assert_array_equal(mine.token, theirs.token)
    for row, report in enumerate(reports[:ROWS]):
        some = slice(report.top)
        ids = mine.scored.top_ids[row, some]
        np.testing.assert_array_equal(ids, theirs.scored.top_ids[row, some])
        np.testing.assert_array_equal(mine.dropped[row, some], theirs.dropped[row, some])
        for what in ("top_sampling_logprobs", "scored.top_logprobs"):
            found, wanted = (operator.attrgetter(what)(x)[row, some] for x in (mine, theirs))
            np.testing.assert_allclose(found, wanted, atol=2e-4, rtol=2e-5, err_msg=what)


@pytest.mark.parametrize("width", [1, 15, 16, 257, 5000])
def test_the_lower_id_comes_first_among_equals(width):
    logits = np.zeros((3, width), np.float32)
    params = [*each("top_k", 1), *each("top_p", 1e-6), *each("temperature", 0.0)]
    found = drawn(logits, params)
    assert found.token.tolist() == [0, 0, 0]
    assert found.support.tolist() == [1, 1, 1]


@pytest.mark.parametrize("k", [1, 2, 127, 128, 129, 4999, 5000, 9999])
def test_top_k_keeps_that_many_of_many_equals(k):
    logits = np.round(np.random.default_rng(k).normal(size=(1, 5000)) * 2).astype(np.float32)
    assert drawn(logits, each("top_k", k)).support[0] == min(k, 5000)


@pytest.mark.parametrize("low", [-1.0, -30.0, -90.0, -3e38])
def test_an_edge_far_below_the_first(low):
    """The brackets that are tried first end at -24."""
    logits = np.full((1, 4000), low, np.float32)
    logits[0, 17] = 0
    found = drawn(logits, each("top_k", 9))
    assert found.support[0] == 9
    assert found.dropped[0][:10].tolist().count(0) >= 9


@pytest.mark.parametrize("p", [0.0, 1e-30, 0.4, 0.6])
def test_typical_tokens_far_from_the_most_typical_logit(p):
    """Half the mass at 0, half at -8.5: the logit of the mean surprise, -4.3, is nobody's, and the
    single token is a little nearer."""
    logits = np.full((1, 5001), -np.log(np.float32(5000)), np.float32)
    logits[0, 4000] = 0.001
    found = drawn(logits, each("typical_p", p))
    expected = (
        1
        if p < 0.5
        else compiled(
            logits, rows_of(*each("typical_p", p)), history_of(5001, [()]), no_guide(), Variant()
        ).support[0]
    )
    assert found.support[0] == expected


def test_what_is_impossible_is_never_drawn():
    logits = np.full((8, 300), -np.inf, np.float32)
    logits[:, 299] = -5.0
    params = each("top_p", 0.5, 1.0) + each("top_k", 3) + each("typical_p", 0.5)
    params += each("min_p", 0.1) + each("temperature", 0.0, 0.3, 2.0)
    found = drawn(logits, params)
    assert found.token.tolist() == [299] * 8
    np.testing.assert_allclose(found.sampling_logprob, 0, atol=1e-6)


def test_bias_and_penalties_are_those_of_xla():
    rng = np.random.default_rng(3)
    logits = rng.normal(size=(6, 1000)).astype(np.float32) * 4
    neutral = SamplingParams()
    params = [
        neutral,
        dataclasses.replace(neutral, repetition_penalty=1.7),
        dataclasses.replace(neutral, frequency_penalty=0.7, presence_penalty=-1.1),
        dataclasses.replace(neutral, logit_bias={0: 9.0, 999: -3.0}),
        dataclasses.replace(neutral, logit_bias={5: 60.0}, repetition_penalty=0.6),
        dataclasses.replace(neutral, frequency_penalty=2.0),
    ]
    ids = [rng.integers(0, 1000, 200).tolist() for _ in params]
    seen = history_of(1000, ids, ids[::-1])
    found = drawn(logits, params, seen)
    by_xla = compiled(logits, rows_of(*params), seen, no_guide(), Variant())
    np.testing.assert_array_equal(found.token, by_xla.token)
    np.testing.assert_allclose(found.sampling_logprob, by_xla.sampling_logprob, atol=2e-5)
    np.testing.assert_allclose(found.penalty, by_xla.penalty, atol=1e-6)


def test_a_row_at_a_node_that_is_no_more_is_free():
    """A row that has ended keeps its place in a guide whose tables are gone."""
    logits = np.random.default_rng(0).normal(size=(2, 300)).astype(np.float32)
    params = each("seed", 1, 1)
    history = history_of(300, [(), ()])
    gone = dataclasses.replace(history, node=jax.numpy.array([1_000_000, 0], jax.numpy.int32))
    assert drawn(logits, params, gone).token.tolist() == drawn(logits, params).token.tolist()
