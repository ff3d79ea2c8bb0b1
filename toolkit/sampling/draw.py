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
from toolkit.sampling.vocabulary import before, columns_of, highest, ids_of, lowest, parts, summed


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
    cumulative = jnp.cumsum(held, axis=-1)
    earlier, whole = before(cumulative[:, -1])
    if parts() > 1:
        cumulative = cumulative + earlier[:, None]
    first, last = _reached(held, cumulative, uniform[:, 0] * whole, ids_of(held))
    block = jnp.minimum(lowest(first), highest(last))
    token = block * BLOCK + _inside(blocks, columns_of(block, blocks.shape[1]), uniform[:, 1])
    return token, jnp.log(whole)


def _inside(
    blocks: Float[Array, "B N 256"], block: Int[Array, "B"], uniform: Float[Array, "B"]
) -> Int[Array, "B"]:
    """The place of each row's token within its block; the device that holds the block says it."""
    count = blocks.shape[1]
    at = block if parts() == 1 else jnp.minimum(block, count - 1)
    mass = jnp.exp(jnp.take_along_axis(blocks, at[:, None, None], axis=1)[:, 0])
    cumulative = jnp.cumsum(mass, axis=-1)
    index = jnp.arange(BLOCK, dtype=jnp.int32)[None, :]
    first, last = _reached(mass, cumulative, uniform * cumulative[:, -1], index)
    place = jnp.minimum(first, last)
    return place if parts() == 1 else summed(jnp.where(block < count, place, 0))


def _reached(
    mass: Float[Array, "B N"],
    cumulative: Float[Array, "B N"],
    target: Float[Array, "B"],
    index: Int[Array, "1 N"],
) -> tuple[Int[Array, "B"], Int[Array, "B"]]:
    """First index with mass whose cumulative mass exceeds the target, and the last one with mass,
    in case rounding lets none exceed it.

    A cumulative sum in parallel may fall by a rounding, so `mass` is asked too: where it is 0
    nothing is drawn.
    """
    held = mass > 0
    beyond = jnp.iinfo(jnp.int32).max
    first = jnp.min(jnp.where(held & (cumulative > target[:, None]), index, beyond), axis=-1)
    return first, jnp.max(jnp.where(held, index, 0), axis=-1)
