"""The exact draw, without a sort, and the keys that make it repeatable.

A token is found by inverting the cumulative distribution in the order of the ids, in two levels: a
block of 256 ids, then a token within it. Two uniforms, one for each level, reach tokens of any
probability; one alone could not reach those below 2**-24.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, UInt32

from toolkit.sampling.sums import BLOCK, block_sums, in_blocks


def uniforms(
    seed: UInt32[Array, "B 2"], choice: UInt32[Array, "B"], step: Int[Array, "B"]
) -> Float[Array, "B 2"]:
    """Two numbers in [0, 1) for each row: `[B, 2]`, `[B]`, `[B]` -> `[B, 2]`.

    The key is `fold_in(fold_in(key(seed), choice), step)`, threefry, with the whole 64-bit seed;
    batch size, row, prompt and parameters have no part in it. The numbers are multiples of 2**-24.
    """

    def one(seed, choice, step):
        key = jax.random.wrap_key_data(seed, impl="threefry2x32")
        key = jax.random.fold_in(jax.random.fold_in(key, choice), step)
        return jax.random.bits(key, (2,), jnp.uint32)

    words = jax.vmap(one)(seed, choice, step.astype(jnp.uint32))
    return (words >> 8).astype(jnp.float32) * jnp.float32(2**-24)


def draw(
    logits: Float[Array, "B V"], uniform: Float[Array, "B 2"]
) -> tuple[Int[Array, "B"], Float[Array, "B"]]:
    """A token of each row and the log of the row's total mass: `[B, V]`, `[B, 2]` -> `[B]`, `[B]`.

    The largest logit of a row is 0 and dropped tokens are -inf. The chosen block is the first whose
    cumulative mass exceeds `uniform[:, 0]` times the total, the token the first within it whose
    cumulative mass exceeds `uniform[:, 1]` times the block's. Dropped tokens are never drawn.
    """
    blocks = in_blocks(logits, -jnp.inf)
    held = block_sums(jnp.exp(blocks))
    block = _invert(held, uniform[:, 0])
    inside = jnp.take_along_axis(blocks, block[:, None, None], axis=1)[:, 0]
    token = block * BLOCK + _invert(jnp.exp(inside), uniform[:, 1])
    return token, jnp.log(jnp.cumsum(held, axis=-1)[:, -1])


def _invert(mass: Float[Array, "B N"], uniform: Float[Array, "B"]) -> Int[Array, "B"]:
    """First index with mass whose cumulative mass exceeds `uniform` times the whole.

    A cumulative sum in parallel may fall by a rounding, so `mass` is asked too: where it is 0
    nothing is drawn. The last index with mass if rounding lets none exceed the target.
    """
    cumulative = jnp.cumsum(mass, axis=-1)
    target = uniform[:, None] * cumulative[:, -1:]
    index = jnp.arange(mass.shape[1], dtype=jnp.int32)[None, :]
    held = mass > 0
    first = jnp.min(jnp.where(held & (cumulative > target), index, mass.shape[1]), axis=-1)
    last = jnp.max(jnp.where(held, index, 0), axis=-1)
    return jnp.minimum(first, last)
