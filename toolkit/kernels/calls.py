"""The kernels as JAX functions, and whether the network that is being traced uses them."""

from __future__ import annotations

import contextlib
import contextvars
import math
from collections.abc import Iterator
from typing import Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Int8

LANES = 16
"""Features of a head are taken so many at a time."""

Operation = Literal["product", "rounded", "attention"]
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
    x: Float[Array, "... inputs"], kernel: Float[Array, "outputs inputs"]
) -> Float[Array, "... outputs"]:
    """Contract the last axes of both: `[..., inputs]`, `[outputs, inputs]` -> `[..., outputs]`."""
    rows = x.reshape(math.prod(x.shape[:-1]), x.shape[-1])
    result = jax.ShapeDtypeStruct((rows.shape[0], kernel.shape[0]), jnp.float32)
    out = jax.ffi.ffi_call("toolkit_product", result)(rows, kernel)
    return out.reshape(*x.shape[:-1], kernel.shape[0])


def rounded_product(
    x: Float[Array, "rows inputs"],
    kernel: Int8[Array, "outputs inputs"],
    scale: Float[Array, "outputs"],
) -> Float[Array, "rows outputs"]:
    """The same in 8 bits, as `toolkit.models.int8` describes it; at most `library.rounded_rows`
    rows."""
    result = jax.ShapeDtypeStruct((x.shape[0], kernel.shape[0]), jnp.float32)
    return jax.ffi.ffi_call("toolkit_rounded_product", result)(x, kernel, scale)


def attention(
    q: Float[Array, "B N T K"],
    keys: Float[Array, "BH S K"],
    values: Float[Array, "BH S K"],
    start: Int[Array, "B"],
    *,
    scale: float,
    cap: float | None,
    window: int | None,
) -> Float[Array, "B N T K"]:
    """Causal attention over the cache, as `toolkit.models.attention.attend` describes it."""
    settings = jnp.array([scale, cap or 0.0, window or 0], jnp.float32)
    result = jax.ShapeDtypeStruct(q.shape, jnp.float32)
    call = jax.ffi.ffi_call("toolkit_attention", result)
    return call(q, keys, values, start, settings)
