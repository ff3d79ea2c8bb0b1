"""The uniform numbers against JAX, whose generator they are."""

from __future__ import annotations

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.oracle.sampler import draw
from tests.oracle.strategies import SEEDS
from tests.oracle.uniforms import threefry2x32, uniforms


@given(st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1))
@settings(max_examples=50, deadline=None)
def test_threefry_is_that_of_jax(key: int, counter: int):
    words = np.array([key >> 32, key & 0xFFFFFFFF, counter >> 32, counter & 0xFFFFFFFF], np.uint32)
    expected = jax.extend.random.threefry_2x32(words[:2], words[2:])
    assert threefry2x32(tuple(words[:2].tolist()), tuple(words[2:].tolist())) == tuple(
        np.asarray(expected).tolist()
    )


@given(SEEDS, st.integers(0, 127), st.integers(0, 100_000))
@settings(max_examples=50, deadline=None)
def test_uniforms_are_those_of_jax(seed: int, choice: int, position: int):
    words = np.array([(seed >> 32) & 0xFFFFFFFF, seed & 0xFFFFFFFF], np.uint32)
    key = jax.random.wrap_key_data(words, impl="threefry2x32")
    bits = jax.random.bits(jax.random.fold_in(jax.random.fold_in(key, choice), position), (2,))
    expected = (np.asarray(bits) >> 8) * 2.0**-24
    assert uniforms(seed, choice, position) == tuple(expected.tolist())


@pytest.mark.parametrize("seed", [0, 1, -1, 1 + 2**32, 2**63 - 1, -(2**63)])
def test_a_key_is_that_of_a_64_bit_seed(seed):  # 22
    with jax.enable_x64(True):
        data = np.asarray(jax.random.key_data(jax.random.key(np.int64(seed), impl="threefry2x32")))
    assert data.tolist() == [(seed >> 32) & 0xFFFFFFFF, seed & 0xFFFFFFFF]


def test_seeds_choices_and_positions_differ():  # 22, 41
    places = [(1, 0, 0), (1 + 2**32, 0, 0), (2, 0, 0), (1, 1, 0), (1, 0, 1), (-1, 0, 0), (0, 0, 0)]
    assert len({uniforms(*place) for place in places}) == len(places)


def test_first_draws_match_the_distribution():  # 88
    p = np.array([0.5, 0.3, 0.2])
    counts = np.bincount([draw(p, *uniforms(seed, 0, 0))[0] for seed in range(10_000)], minlength=3)
    chi_square = float(((counts - 10_000 * p) ** 2 / (10_000 * p)).sum())
    assert chi_square < 27.7  # two degrees of freedom: exp(-27.7 / 2) = 1e-6
