"""Norms, rotary embedding, attention and mixtures on numbers that a person can follow."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from tests.models.tiny_families import CASES
from toolkit.models import Decoder, KVCache
from toolkit.models.attention import read
from toolkit.models.cache import LayerCache
from toolkit.models.compiler import jit
from toolkit.models.config import Rope
from toolkit.models.families import read_config
from toolkit.models.layers import LayerNorm, RMSNorm
from toolkit.models.mixture import Mixture
from toolkit.models.rotary import angles, rotate

FLOAT = jnp.dtype(jnp.float32)


def test_rms_norm_by_hand():
    norm = RMSNorm(2, 0.0, dtype=FLOAT)
    # The mean square of (3, 4) is 12.5.
    np.testing.assert_allclose(
        norm(jnp.asarray([3.0, 4.0])), [3 / 12.5**0.5, 4 / 12.5**0.5], rtol=1e-6
    )


def test_a_norm_with_an_offset_scales_by_one_more_than_what_is_stored():
    norm = RMSNorm(2, 0.0, kind="rms_offset", dtype=FLOAT)
    norm.scale[...] = jnp.asarray([0.0, 1.0])
    np.testing.assert_allclose(norm(jnp.asarray([2.0, -2.0])), [1.0, -2.0], rtol=1e-6)


def test_an_offset_is_added_before_rounding():
    """1 + 2^-8 is no bfloat16 and would become 1; (1, 7) has root mean square 5."""
    norm = RMSNorm(2, 0.0, kind="rms_offset", dtype=jnp.bfloat16)
    norm.scale[...] = jnp.full(2, 2.0**-8, jnp.bfloat16)
    found = norm(jnp.asarray([1.0, 7.0], jnp.bfloat16)).astype(FLOAT)
    # 1.4 * (1 + 2^-8) lies nearest to 180 / 128; 1.4 alone would be 179 / 128.
    np.testing.assert_array_equal(found, [206 / 1024, 180 / 128])


def test_layer_norm_by_hand():
    norm = LayerNorm(2, 0.0, dtype=FLOAT)
    norm.scale[...], norm.bias[...] = jnp.asarray([2.0, 2.0]), jnp.asarray([0.5, 0.5])
    # The mean of (1, 7) is 4 and its deviation 3.
    np.testing.assert_allclose(norm(jnp.asarray([1.0, 7.0])), [-1.5, 2.5], rtol=1e-6)


def test_rotate_by_hand():
    x = jnp.asarray([1.0, 0.0, 0.0, 2.0]).reshape(1, 1, 1, 4)
    quarter = (jnp.zeros((1, 1, 1, 4)), jnp.ones((1, 1, 1, 4)))
    # Feature 0 turns towards feature 2, and feature 3 away towards feature 1.
    np.testing.assert_array_equal(rotate(x, *quarter)[0, 0, 0], [0.0, -2.0, 1.0, 0.0])


def test_a_part_of_a_head_turns_and_the_rest_stays():
    x = jnp.asarray([1.0, 0.0, 3.0, 4.0]).reshape(1, 1, 1, 4)
    quarter = (jnp.zeros((1, 1, 1, 2)), jnp.ones((1, 1, 1, 2)))
    np.testing.assert_array_equal(rotate(x, *quarter)[0, 0, 0], [0.0, 1.0, 3.0, 4.0])


def test_angles_are_position_times_frequency_times_ratio():
    rope = Rope(theta=100.0, width=4, ratios=(1.0, 0.5))
    found = angles(rope, jnp.asarray([[0, 3]], jnp.int32), 8)
    np.testing.assert_allclose(found[0, 0], [[0] * 4, [3, 0.15, 3, 0.15]], rtol=1e-6)


def seen(window: int | None, position: int, slots: int = 8) -> list[int]:
    """The slots that a query at `position` reads: keys are equal, values name their slot."""
    layer = LayerCache(keys=jnp.zeros((1, slots, slots)), values=jnp.eye(slots)[None])
    query = jnp.ones((1, 1, 1, slots))
    found = read(query, layer, jnp.asarray([position], jnp.int32), window=window)
    return np.flatnonzero(found[0, 0, 0]).tolist()


@pytest.mark.parametrize(
    ("window", "position", "expected"),
    [
        (None, 5, [0, 1, 2, 3, 4, 5]),
        (3, 5, [3, 4, 5]),
        (3, 2, [0, 1, 2]),
        (3, 3, [1, 2, 3]),
        (3, 1, [0, 1]),
        (1, 5, [5]),
        (8, 7, [0, 1, 2, 3, 4, 5, 6, 7]),
    ],
)
def test_a_window_of_w_sees_exactly_w_tokens(window, position, expected):
    assert seen(window, position) == expected


def test_scores_are_scaled_then_capped():
    keys = jnp.asarray([[[4.0], [0.0]]])
    layer = LayerCache(keys=keys, values=jnp.asarray([[[1.0], [0.0]]]))
    start = jnp.asarray([1], jnp.int32)
    found = read(jnp.ones((1, 1, 1, 1)), layer, start, scale=0.5, cap=1.5)
    score = 1.5 * np.tanh(4 * 0.5 / 1.5)
    np.testing.assert_allclose(found[0, 0, 0, 0], 1 / (1 + np.exp(-score)), rtol=1e-6)


def test_a_mixture_by_hand():
    """Experts that multiply by 1, 2, 3 and 4; the router likes the second and the third."""
    config = dataclasses.replace(
        read_config(CASES["mixtral"]), width=1, expert_width=1, activation="relu"
    )
    mixture = Mixture(config, jax.nn.relu, rngs=nnx.Rngs(0), dtype=FLOAT)
    mixture.router.kernel[...] = jnp.log(jnp.asarray([[0.1], [0.4], [0.3], [0.2]]))
    mixture.gate_up[...] = jnp.ones((8, 1))
    mixture.down[...] = jnp.asarray([[1.0], [2.0], [3.0], [4.0]])
    ones = jnp.ones((1, 1, 1))
    np.testing.assert_allclose(mixture(ones), [[[(0.4 * 2 + 0.3 * 3) / 0.7]]], rtol=1e-6)
    mixture.config = dataclasses.replace(config, experts_normalised=False)
    np.testing.assert_allclose(mixture(ones), [[[0.4 * 2 + 0.3 * 3]]], rtol=1e-6)


@pytest.mark.parametrize(
    "name",
    [
        "gpt_neox",
        "qwen3_moe",
        *(pytest.param(name, marks=pytest.mark.slow) for name in ("gemma3_text", "olmo2", "gpt2")),
    ],
)
def test_a_row_has_the_same_bits_in_every_batch(name):
    """Alone but for padding, and as row 2 of 5."""
    decoder = Decoder(read_config(CASES[name]), rngs=nnx.Rngs(0))
    graph, state = nnx.split(decoder)

    @jit
    def run(state, tokens, start, cache):
        hidden, cache = (model := nnx.merge(graph, state))(tokens, start, cache)
        return model.logits(hidden[:, 0]), cache

    def last(rows: int, row: int) -> np.ndarray:
        random = np.random.default_rng(rows)
        cache = KVCache.zeros(decoder.config, rows=rows, slots=16, dtype=FLOAT)
        tokens = random.integers(0, 11, (6, rows)).astype(np.int32)
        tokens[:, row] = [3, 1, 4, 1, 5, 9]
        for at, column in enumerate(tokens):
            logits, cache = run(state, column[:, None], np.full(rows, at, np.int32), cache)
        return np.asarray(logits[row])

    np.testing.assert_array_equal(last(2, 0), last(5, 2))
