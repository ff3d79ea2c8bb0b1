"""The vocabulary, whole or divided among devices.

Under `jax.shard_map` over the mesh axis `AXIS` each device holds the logits of consecutive ids, the
same number of them everywhere: device i's first column is id `i * columns`. What looks at all ids
passes through here: each device answers for its own columns, and the answers, a few numbers a row,
are combined. `[B, V]` never leaves its device. Elsewhere the vocabulary is whole, and every
function here is what it says and nothing more.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Shaped

from toolkit import kernels

AXIS = "model"
"""The mesh axis that divides the vocabulary, if there is one."""

BLOCK = 32
"""Ids in a block of a selection. Any size selects the same."""

Leaders = tuple[Float[Array, "B A"], Int[Array, "B A"]]
"""The largest keys of each row and their ids, in order."""


def parts() -> int:
    """Devices that the vocabulary is divided among where this is traced; 1: it is whole."""
    mesh = jax.sharding.get_abstract_mesh()
    return mesh.shape[AXIS] if AXIS in mesh.manual_axes else 1


def summed(x: Shaped[Array, "..."]) -> Shaped[Array, "..."]:
    """The sum of what the devices found."""
    return x if parts() == 1 else jax.lax.psum(x, AXIS)


def highest(x: Shaped[Array, "..."]) -> Shaped[Array, "..."]:
    """The largest that a device found."""
    return x if parts() == 1 else jax.lax.pmax(x, AXIS)


def lowest(x: Shaped[Array, "..."]) -> Shaped[Array, "..."]:
    """The smallest that a device found."""
    return x if parts() == 1 else jax.lax.pmin(x, AXIS)


def before(x: Float[Array, "B"]) -> tuple[Float[Array, "B"], Float[Array, "B"]]:
    """Of each row's numbers, one a device: the sum over the devices before this one, and over all:
    `[B]` -> `[B]`, `[B]`. On every device the second is the same number."""
    count = parts()
    if count == 1:
        return jnp.zeros_like(x), x
    sums = jnp.cumsum(jax.lax.all_gather(x, AXIS, axis=1), axis=1)
    earlier = jnp.pad(sums, ((0, 0), (1, 0)))[:, :-1]
    mine = jnp.arange(count, dtype=jnp.int32)[None, :] == jax.lax.axis_index(AXIS)
    return jnp.sum(jnp.where(mine, earlier, 0.0), axis=1), sums[:, -1]


def ids_of(x: Shaped[Array, "B N"]) -> Int[Array, "1 N"]:
    """The ids of the columns."""
    columns = jnp.arange(x.shape[1], dtype=jnp.int32)[None, :]
    return columns if parts() == 1 else columns + jax.lax.axis_index(AXIS) * x.shape[1]


def columns_of(ids: Int[Array, "..."], count: int) -> Int[Array, "..."]:
    """The columns of ids; `count`, which is beyond the last, for those of other devices."""
    if parts() == 1:
        return ids
    column = ids - jax.lax.axis_index(AXIS) * count
    return jnp.where((column >= 0) & (column < count), column, count)


def taken(x: Shaped[Array, "B N"], ids: Int[Array, "B A"]) -> Shaped[Array, "B A"]:
    """The values of some ids: `[B, V]`, `[B, A]` -> `[B, A]`."""
    if parts() == 1:
        return jnp.take_along_axis(x, ids, axis=1)
    column = columns_of(ids, x.shape[1])
    own = jnp.take_along_axis(x, jnp.minimum(column, x.shape[1] - 1), axis=1)
    if x.dtype == jnp.bool_:
        return summed((own & (column < x.shape[1])).astype(jnp.int32)) > 0
    return summed(jnp.where(column < x.shape[1], own, jnp.zeros((), x.dtype)))


def largest(x: Float[Array, "B V"], count: int, *, by_blocks: bool = False) -> Leaders:
    """The `count` largest and their ids, the lower id first among equals: `[B, V]` -> `[B, A]`.

    A selection alone would put -0.0 behind 0.0. `by_blocks` is another way to the same (CPU).
    """
    if parts() == 1 and 0 < count <= min(kernels.MOST_LARGEST, x.shape[1]):
        if kernels.fit("largest", x):
            return kernels.largest(x, count)
    select = _by_blocks if by_blocks else jax.lax.top_k
    values, ids = select(jnp.where(x == 0, 0.0, x), min(count, x.shape[1]))
    if parts() == 1 or count == 0:
        return values, ids
    # In the order of the devices, so that among equals the lower id still comes first.
    ids = ids + jax.lax.axis_index(AXIS) * x.shape[1]
    values, ids = (jax.lax.all_gather(own, AXIS, axis=1, tiled=True) for own in (values, ids))
    values, place = jax.lax.top_k(values, min(count, values.shape[1]))
    return values, jnp.take_along_axis(ids, place, axis=1)


def _by_blocks(x: Float[Array, "B V"], count: int) -> Leaders:
    """The largest of the columns here: `[B, V]` -> `[B, A]`.

    They lie in the `count` blocks whose own largest come first: whatever another block holds comes
    after one key from each of these. A selection among those is cheaper than one among all. The
    blocks stay in the order of the ids, for equal keys.
    """
    rows, columns = x.shape
    if count == 0 or columns % BLOCK or columns < 4 * BLOCK * count:
        values, ids = jax.lax.top_k(x, count)
        return values, ids
    blocks = x.reshape(rows, -1, BLOCK)
    block = jnp.sort(jax.lax.top_k(jnp.max(blocks, axis=-1), count)[1], axis=1)
    held = jnp.take_along_axis(blocks, block[:, :, None], axis=1).reshape(rows, -1)
    values, place = jax.lax.top_k(held, count)
    ids = jnp.take_along_axis(block, place // BLOCK, axis=1) * BLOCK + place % BLOCK
    return values, ids


def no_leaders(x: Float[Array, "B V"], count: int) -> Leaders:
    """Zeros of the shape of `largest`, for when nobody asks."""
    shape = (x.shape[0], min(count, x.shape[1] * parts()))
    return jnp.zeros(shape, jnp.float32), jnp.zeros(shape, jnp.int32)
