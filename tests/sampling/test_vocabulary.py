"""The largest keys of a vocabulary, and steps whose rows are taken part by part."""

from __future__ import annotations

import dataclasses

import jax
import numpy as np
import pytest

from tests.sampling.batches import compiled, history_of, no_guide, rows_of
from toolkit.models.compiler import jit
from toolkit.sampling.params import SamplingParams
from toolkit.sampling.sample import PART
from toolkit.sampling.variant import Variant
from toolkit.sampling.vocabulary import BLOCK, largest

VOCAB = 4 * BLOCK * 20
"""Large enough for a selection of 20 to go by blocks."""


@pytest.mark.parametrize("vocab_size", [VOCAB - BLOCK, VOCAB, VOCAB + 1, 49_152])
@pytest.mark.parametrize("by_blocks", [False, True])
@pytest.mark.parametrize("levels", [1, 3, 40, 1000])
def test_the_largest_are_those_of_a_stable_sort(vocab_size, levels, by_blocks):
    """Many keys are equal, many are -inf, and 0.0 stands beside -0.0."""
    rng = np.random.default_rng(levels)
    keys = rng.integers(-levels, 1, (4, vocab_size)).astype(np.float32)
    keys[1, rng.random(vocab_size) < 0.5] *= -1
    keys[2, 5:] = -np.inf
    keys[3] = -np.inf
    expected = np.argsort(-keys, axis=1, kind="stable")[:, :20]
    values, ids = jit(largest, static_argnums=1, static_argnames="by_blocks")(
        keys, 20, by_blocks=by_blocks
    )
    np.testing.assert_array_equal(ids, expected)
    np.testing.assert_array_equal(values, np.take_along_axis(keys, expected, axis=1))


def test_a_row_of_many_has_the_bits_it_has_in_a_batch_of_one_part():
    """With penalties for every third row: what they have seen is cut out part by part."""
    count, vocab_size = 2 * PART, 600
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 3, (count, vocab_size)).astype(np.float32)
    plain = SamplingParams(top_p=0.9, seed=3)
    hard = dataclasses.replace(
        plain, repetition_penalty=1.5, presence_penalty=0.5, frequency_penalty=0.25
    )
    params = [hard if i % 3 == 0 else plain for i in range(count)]
    said = rng.integers(0, vocab_size, (count, 400))
    history = history_of(vocab_size, said.tolist(), rng.permutation(said).tolist())

    def step(rows: slice):
        seen = jax.tree.map(lambda x: x[rows], history)
        return compiled(logits[rows], rows_of(*params[rows]), seen, no_guide(), Variant())

    whole = jax.device_get(step(slice(None)))
    halves = [jax.device_get(step(slice(at, at + PART))) for at in (0, PART)]
    together = jax.tree.map(lambda *x: np.concatenate(x), *halves)
    jax.tree.map(np.testing.assert_array_equal, whole, together)
    assert np.any(whole.penalty[::3]) and not np.any(np.delete(whole.penalty, np.s_[::3]))
