"""Projections in 8-bit whole numbers."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from tests.models.test_family_logits import tiny
from tests.models.tiny import tensors, write_folder
from toolkit.errors import UnsupportedModel
from toolkit.models import KVCache, load
from toolkit.models.int8 import Int8Linear, rounded, rounded_on_host

FLOAT = jnp.dtype(jnp.float32)


def test_rounded_by_hand():
    rows = np.asarray([[2.54, -1.27, 0.01, 0.03], [0, 0, 0, 0], [-127, 63.5, 64.5, 1]], np.float32)
    # Steps of 0.02 in the first row; halves go to the even neighbour.
    expected = [[127, -64, 0, 2], [0, 0, 0, 0], [-127, 64, 64, 1]]
    whole, step = rounded(jnp.asarray(rows))
    assert whole[0, :2].tolist() == expected[0][:2]
    assert whole[1:].tolist() == expected[1:]
    np.testing.assert_allclose(step[:, 0] * 127, [2.54, 0, 127], rtol=1e-6, atol=1e-20)
    again, steps = rounded_on_host(rows)
    np.testing.assert_array_equal(again, whole)
    np.testing.assert_array_equal(steps, step[:, 0])


def test_both_digits_of_an_activation_count():
    linear = Int8Linear(3, 2, bias=True, rngs=nnx.Rngs(0), dtype=FLOAT)
    linear.kernel[...] = jnp.asarray([[127, 0, -127], [1, 2, 3]], jnp.int8)
    linear.scale[...] = jnp.asarray([0.5, 2.0])
    linear.bias[...] = jnp.asarray([0.0, 1.0])
    # The row's step is 1, and 4.5 is 4 and 127 / 254: one digit alone would make it 4.
    found = linear(jnp.asarray([[127.0, 3.0, 4.5]]))
    expected = [(127 * 127 - 127 * 4.5) / 2, 2 * (127 + 2 * 3 + 3 * 4.5) + 1]
    np.testing.assert_allclose(found, [expected], rtol=1e-6)


def test_a_row_has_the_same_bits_in_every_batch_and_alone():
    linear = Int8Linear(64, 48, bias=False, rngs=nnx.Rngs(0), dtype=FLOAT)
    rows = jax.random.normal(jax.random.key(1), (5, 64))
    whole = linear(rows)
    for row in range(5):
        np.testing.assert_array_equal(linear(rows[row : row + 1])[0], whole[row])


def logits(decoder, tokens):
    cache = KVCache.zeros(decoder.config, rows=1, slots=8, dtype=FLOAT)
    hidden, _ = decoder(jnp.asarray([tokens], jnp.int32), jnp.zeros(1, jnp.int32), cache)
    return np.asarray(decoder.logits(hidden)[0])


@pytest.mark.parametrize("tied", [False, True])
def test_a_decoder_in_int8_is_near_the_one_in_float32(tmp_path, tied):
    folder = write_folder(tmp_path, tensors(tie_word_embeddings=tied), tie_word_embeddings=tied)
    exact, whole = load(folder), load(folder, quant="int8")
    assert whole.head is not None
    assert whole.head.kernel[...].dtype == whole.blocks[0].qkv.kernel[...].dtype == jnp.int8
    assert whole.embedding[...].dtype == jnp.float32
    tokens = [3, 1, 4, 1, 5]
    found, expected = logits(whole, tokens), logits(exact, tokens)
    assert found.dtype == np.float32
    error = np.abs(found - expected).max() / np.abs(expected).max()
    assert 0 < error < 0.02


def test_kernels_are_what_rounding_gives(tmp_path):
    decoder = load(write_folder(tmp_path), quant="int8")
    down = tensors()["model.layers.1.mlp.down_proj.weight"]
    linear = decoder.blocks[1].down
    back = linear.kernel[...].astype(FLOAT) * linear.scale[...][:, None]
    assert np.all(np.abs(back - down) <= np.abs(down).max(axis=1, keepdims=True) / 254 * 1.001)


def test_mixtures_are_refused(tmp_path):
    tiny(tmp_path, "mixtral")
    with pytest.raises(UnsupportedModel, match="`quant` 'int8' is not handled for mixtures"):
        load(tmp_path, quant="int8")


def test_other_widths_are_refused(tmp_path):
    with pytest.raises(UnsupportedModel, match="`quant` 'int4' is not handled"):
        load(write_folder(tmp_path), quant="int4")
