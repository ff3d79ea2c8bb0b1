"""Sums over the vocabulary that have the same bits in every batch.

XLA adds in another order for another batch size. A product with ones does not: its rows are
computed alike however many there are. So a sum over V is a product within blocks of 256 ids and a
running sum over the blocks.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from toolkit.sampling.vocabulary import summed

BLOCK = 256
"""Ids in a block. Part of what a seed means: another size would draw other tokens."""
ONES = 8
"""Columns of ones in the product; fewer than eight go to another CPU kernel."""


def in_blocks(x: Float[Array, "B V"], fill: float) -> Float[Array, "B N 256"]:
    """Consecutive ids in blocks of 256, the last one filled up: `[B, V]` -> `[B, V / 256, 256]`."""
    short = -x.shape[1] % BLOCK
    if short:
        x = jnp.pad(x, ((0, 0), (0, short)), constant_values=fill)
    return x.reshape(x.shape[0], -1, BLOCK)


def block_sums(blocks: Float[Array, "B N 256"]) -> Float[Array, "B N"]:
    """The sum of each block: `[B, N, 256]` -> `[B, N]`."""
    rows, count = blocks.shape[:2]
    flat = blocks.reshape(rows * count, BLOCK)
    if len(flat) == 1:  # by itself it would go to another CPU kernel too
        return block_sums(jnp.concatenate([blocks, blocks]))[:1]
    sums = jax.lax.dot_general(
        flat,
        jnp.ones((ONES, BLOCK), jnp.float32),
        (((1,), (1,)), ((), ())),
        precision=jax.lax.Precision.HIGHEST,
    )
    return sums[:, 0].reshape(rows, count)


def total(x: Float[Array, "B V"]) -> Float[Array, "B"]:
    """The sum over the vocabulary: `[B, V]` -> `[B]`."""
    return summed(jnp.cumsum(block_sums(in_blocks(x, 0.0)), axis=-1)[:, -1])
