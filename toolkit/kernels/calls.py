"""The kernels as JAX functions, and whether the network that is being traced uses them."""

from __future__ import annotations

import contextlib
import contextvars
import math
from collections.abc import Iterator
from typing import Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Int8

LANES = 16
"""Features of a head are taken so many at a time."""

TILED_INPUTS = 4096
"""Most inputs of a tiled product: of more a part of the kernel does not stay near the core, and
their running sum is less exact than XLA's."""

Operation = Literal["product", "tiles", "rounded", "attention", "moments", "draw"]
_in_use: contextvars.ContextVar[tuple[Operation, ...]] = contextvars.ContextVar("kernels")


@contextlib.contextmanager
def using(*operations: Operation) -> Iterator[None]:
    """Let what is traced within use these kernels and no others."""
    token = _in_use.set(operations)
    try:
        yield
    finally:
        _in_use.reset(token)


def fit(operation: Operation, *arrays: Array) -> bool:
    """Whether the network that is being traced uses this kernel, and it takes these arrays."""
    used = operation in _in_use.get(())
    return used and all(array.dtype == jnp.float32 for array in arrays)


def product(
    x: Float[Array, "... inputs"], kernel: Float[Array, "outputs inputs"], *, tiled: bool = False
) -> Float[Array, "... outputs"]:
    """Contract the last axes of both: `[..., inputs]`, `[outputs, inputs]` -> `[..., outputs]`.

    `tiled` is for many rows, where `library.has_tiles`; its sums have other bits.
    """
    rows = x.reshape(math.prod(x.shape[:-1]), x.shape[-1])
    result = jax.ShapeDtypeStruct((rows.shape[0], kernel.shape[0]), jnp.float32)
    out = jax.ffi.ffi_call("toolkit_tiled_product" if tiled else "toolkit_product", result)(
        rows, kernel
    )
    return out.reshape(*x.shape[:-1], kernel.shape[0])


def rounded_product(
    x: Float[Array, "rows inputs"],
    kernel: Int8[Array, "outputs inputs"],
    scale: Float[Array, "outputs"],
) -> Float[Array, "rows outputs"]:
    """The same in 8 bits, as `toolkit.models.int8` describes it."""
    result = jax.ShapeDtypeStruct((x.shape[0], kernel.shape[0]), jnp.float32)
    return jax.ffi.ffi_call("toolkit_rounded_product", result)(x, kernel, scale)


def attention(
    q: Float[Array, "B N T K"],
    keys: Float[Array, "BH S K"],
    values: Float[Array, "BH S K"],
    start: Int[Array, "B"],
    source: Int[Array, "B"],
    shared: Int[Array, "B"],
    *,
    scale: float,
    cap: float | None,
    window: int | None,
) -> Float[Array, "B N T K"]:
    """Causal attention over the cache, as `toolkit.models.attention.attend` describes it. The first
    `shared[b]` slots of row b are read in row `source[b]`, where the same numbers are."""
    settings = jnp.array([scale, cap or 0.0, window or 0], jnp.float32)
    result = jax.ShapeDtypeStruct(q.shape, jnp.float32)
    call = jax.ffi.ffi_call("toolkit_attention", result)
    return call(q, keys, values, start, source, shared, settings)


def moments(
    x: Float[Array, "B V"], token: Int[Array, "B"]
) -> tuple[Float[Array, "B"], Float[Array, "B"], Float[Array, "B"], Int[Array, "B"]]:
    """Of each row the largest number, the sum of `exp(x - largest)`, the sum of that times
    `x - largest`, and the token's rank: `[B, V]`, `[B]` -> `[B]` each."""
    numbers, whole = (jax.ShapeDtypeStruct(token.shape, t) for t in (jnp.float32, jnp.int32))
    call = jax.ffi.ffi_call("toolkit_moments", (numbers, numbers, numbers, whole))
    peak, mass, weighted, rank = call(x, token)
    return peak, mass, weighted, rank


def edit(
    logits: Float[Array, "B V"],
    bias: tuple[Int[Array, "B M"], Float[Array, "B M"]],
    penalties: Float[Array, "B 3"],
    prompted: Bool[Array, "R V"],
    counts: Int[Array, "R V"],
    first: Int[Array, ""],
) -> Float[Array, "B V"]:
    """Logits after bias (ids, negative for none, and what is added) and penalties (repetition,
    frequency, presence); row i's history is row `first + i`."""
    call = jax.ffi.ffi_call("toolkit_edit", jax.ShapeDtypeStruct(logits.shape, jnp.float32))
    return call(logits, *bias, penalties, prompted, counts, first)


def draw(
    logits: Float[Array, "B V"], given: Float[Array, "B 8"]
) -> tuple[Float[Array, "B 8"], Int[Array, "B 6"]]:
    """A token of each row, and what truncation left of it; `source/kernels.h` lists the columns."""
    rows = logits.shape[0]
    results = (
        jax.ShapeDtypeStruct((rows, 8), jnp.float32),
        jax.ShapeDtypeStruct((rows, 6), jnp.int32),
    )
    found, ids = jax.ffi.ffi_call("toolkit_draw", results)(logits, given)
    return found, ids
