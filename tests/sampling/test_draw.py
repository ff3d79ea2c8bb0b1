"""Uniform numbers and the draw from them, against the oracle and at their ends."""

from __future__ import annotations

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.oracle import sampler as oracle
from tests.oracle.strategies import SEEDS
from tests.oracle.uniforms import uniforms as expected_uniforms
from tests.sampling.batches import compiled, gather, history_of, no_guide, rows_of
from toolkit.models.compiler import jit
from toolkit.sampling.draw import draw, uniforms
from toolkit.sampling.params import SamplingParams, seed_words
from toolkit.sampling.variant import Variant

SIZES = [5, 11, 255, 256, 257, 300, 600, 1500]
ULP = 2.0**-24
"""Between neighbouring uniform numbers; the largest is 1 - ULP."""

draw_ids = jit(draw)
draw_uniforms = jit(uniforms)


def uniforms_of(*places: tuple[int, int, int]) -> np.ndarray:
    """The numbers of some (seed, choice, step)."""
    seeds, choices, steps = zip(*places, strict=True)
    words = np.asarray([seed_words(seed) for seed in seeds], np.uint32)
    return np.asarray(
        draw_uniforms(words, np.asarray(choices, np.uint32), np.asarray(steps, np.int32))
    )


def drawn(probabilities: np.ndarray, pairs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Tokens and log of the mass for probabilities `[V]` or `[B, V]` and numbers `[B, 2]`."""
    with np.errstate(divide="ignore"):
        logits = np.log(np.asarray(probabilities, np.float64)).astype(np.float32)
    logits = np.broadcast_to(logits, (len(pairs), logits.shape[-1]))
    token, mass = draw_ids(logits, np.asarray(pairs, np.float32))
    return np.asarray(token), np.asarray(mass)


# Uniform numbers


def test_uniforms_are_the_oracles_exactly():
    places = gather(st.tuples(SEEDS, st.integers(0, 2**32 - 1), st.integers(0, 2**31 - 1)), 512)
    found = uniforms_of(*places)
    np.testing.assert_array_equal(found, [expected_uniforms(*place) for place in places])
    assert found.min() >= 0 and found.max() < 1
    np.testing.assert_array_equal(found / ULP, np.round(found / ULP))


@pytest.mark.parametrize("seed", [0, 1, -1, 2**31, 2**32, 2**63 - 1, -(2**63)])
def test_a_seed_at_an_edge_of_its_range(seed):  # contract 22
    assert uniforms_of((seed, 3, 7)).tolist() == [list(expected_uniforms(seed, 3, 7))]


def test_all_bits_of_a_seed_and_all_parts_of_a_place_count():  # contract 22, 40, 41
    places = [(1, 0, 0), (1 + 2**32, 0, 0), (1 - 2**63, 0, 0), (-1, 0, 0), (2, 0, 0), (1, 1, 0)]
    assert len({tuple(pair) for pair in uniforms_of(*places, (1, 0, 1)).tolist()}) == 7


def test_a_place_has_the_same_numbers_in_any_row():
    alone = uniforms_of((5, 1, 2))
    among = uniforms_of(*((seed, 1, 2) for seed in range(8)))
    np.testing.assert_array_equal(among[5], alone[0])


# The draw


@pytest.mark.parametrize("vocab_size", SIZES)
def test_draw_is_the_oracles_where_the_margin_is_certain(vocab_size):
    rng = np.random.default_rng(vocab_size)
    rows = 2000
    probabilities = rng.dirichlet(np.full(vocab_size, 0.3), rows)
    probabilities[rng.random(probabilities.shape) < 0.3] = 0
    probabilities[np.arange(rows), rng.integers(0, vocab_size, rows)] += 1e-3
    pairs = (rng.integers(0, 2**24, (rows, 2)) * ULP).astype(np.float32)
    tokens, mass = drawn(probabilities, pairs)
    found = [oracle.draw(p, *pair) for p, pair in zip(probabilities, pairs.tolist(), strict=True)]
    certain = np.array([margin > 4e-6 for _, margin in found])
    np.testing.assert_array_equal(tokens[certain], np.array([token for token, _ in found])[certain])
    assert (~certain).mean() < 0.01
    assert (probabilities[np.arange(rows), tokens] > 0).all()
    np.testing.assert_allclose(mass, np.log(probabilities.sum(axis=1)), atol=1e-5)


@pytest.mark.parametrize(
    ("u", "token"),
    [(0, 0), (0.5 - ULP, 0), (0.5, 2), (0.75 - ULP, 2), (0.75, 3), (1 - ULP, 3)],
)
def test_draw_inverts_the_cumulative_mass(u, token):
    assert drawn(np.array([0.5, 0, 0.25, 0.25]), np.array([[0.9, u]]))[0].tolist() == [token]


@pytest.mark.parametrize("vocab_size", SIZES)
def test_ends_of_the_uniforms_reach_the_first_and_the_last_token_with_mass(vocab_size):
    p = np.full(vocab_size, 1.0)
    p[[0, 1, -1, -2]] = 0
    tokens, _ = drawn(p, np.array([[0, 0], [1 - ULP, 1 - ULP]]))
    assert tokens.tolist() == [2, vocab_size - 3]


@pytest.mark.parametrize("at", [0, 255, 256, 511, 512, 599])
@pytest.mark.parametrize("u", [0, 0.5, 1 - ULP])
def test_a_lone_token_is_drawn_by_any_number(at, u):
    p = np.zeros(600)
    p[at] = 1
    tokens, mass = drawn(p, np.array([[u, u]]))
    assert tokens.tolist() == [at] and mass.tolist() == [0]


def test_blocks_without_mass_are_never_entered():
    p = np.zeros(1500)
    p[[300, 1030]] = [0.25, 0.75]  # blocks 1 and 4 of 0..5
    us = np.array([0, 0.25 - ULP, 0.25, 1 - ULP])
    tokens, _ = drawn(p, np.stack([us, us], axis=1))
    assert tokens.tolist() == [300, 300, 1030, 1030]


def test_a_tokens_mass_may_be_far_below_one_step_of_a_uniform_number():
    # Block 1 holds 2**-20 in all, and its ids share it: a level of its own reaches each of them.
    p = np.concatenate([np.full(256, (1 - 2.0**-20) / 256), np.full(256, 2.0**-28)])
    tokens, _ = drawn(p, np.array([[1 - ULP, u] for u in (0, 0.5, 1 - ULP)]))
    assert tokens.tolist() == [256, 384, 511]


@given(st.lists(st.booleans(), min_size=600, max_size=600), st.integers(0, 2**32 - 1))
@settings(max_examples=30)
def test_never_a_token_without_mass(holes, seed):
    rng = np.random.default_rng(seed)
    p = np.where(holes, 0, np.exp(rng.normal(0, 8, 600)))
    p[rng.integers(600)] += 1
    pairs = rng.integers(0, 2**24, (256, 2)) * ULP
    pairs[:64, 0], pairs[32:96, 1] = 1 - ULP, 0
    assert (p[drawn(p, pairs)[0]] > 0).all()


# Through the whole sampler


def test_draws_do_not_depend_on_the_row_or_on_the_neighbours():
    logits = np.random.default_rng(0).normal(size=(8, 300)).astype(np.float32)
    params = [SamplingParams(seed=seed, temperature=0.5 + seed / 4) for seed in range(8)]

    def run(order: list[int]):
        rows, history = rows_of(*(params[i] for i in order)), history_of(300, [()] * 8)
        return jax.device_get(compiled(logits[order], rows, history, no_guide(), Variant()))

    straight, turned = run(list(range(8))), run([3, 1, 7, 0, 5, 6, 2, 4])
    jax.tree.map(
        lambda a, b: np.testing.assert_array_equal(a[[3, 1, 7, 0, 5, 6, 2, 4]], b), straight, turned
    )


def test_first_draws_match_the_distribution():  # contract 88
    p = np.array([0.5, 0.3, 0.2])
    pairs = uniforms_of(*((seed, 0, 0) for seed in range(10_000)))
    counts = np.bincount(drawn(p, pairs)[0], minlength=3)
    chi_square = float(((counts - 10_000 * p) ** 2 / (10_000 * p)).sum())
    assert chi_square < 27.7  # two degrees of freedom: false alarm exp(-27.7 / 2) = 1e-6
