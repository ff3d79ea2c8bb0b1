"""Projections and norms, whose rows have the same bits for every batch of two rows or more.

Sources: RMS norm (Zhang and Sennrich 2019, arXiv 1910.07467), layer norm (Ba et al. 2016, arXiv
1607.06450).
"""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from toolkit import kernels
from toolkit.models.attention import ONES, exact
from toolkit.models.config import Norm
from toolkit.models.sharding import parts, summed

PARTS = 4
"""Parts of a kernel that meet a single row: on CPU XLA gives a small product to one core only, but
each part of a batched one to the next free core."""


@runtime_checkable
class Projection(Protocol):
    """What every kind of linear layer has."""

    bias: nnx.Param | None

    def product(
        self,
        x: Float[Array, "... inputs"],
        result: DTypeLike | None = None,
        onto: Float[Array, "... outputs"] | None = None,
    ) -> Float[Array, "... outputs"]: ...


class Linear(nnx.Module):
    """`x @ kernel.T + bias`. The kernel is stored `[out, in]`.

    Why this way round: on CPU a contraction over the last axis of both sides needs no re-packing,
    and its rows have the same bits for every batch of two rows or more; on GPU a matrix-vector
    product reads it in order.
    """

    def __init__(self, inputs: int, outputs: int, *, bias: bool, rngs: nnx.Rngs, dtype: DTypeLike):
        self.kernel = normal((outputs, inputs), inputs, rngs, dtype)
        self.bias = nnx.Param(jnp.zeros((outputs,), dtype)) if bias else None

    def __call__(self, x: Float[Array, "... inputs"]) -> Float[Array, "... outputs"]:
        y = self.product(x)
        return y if self.bias is None else y + along_last(self.bias[...], y)

    def product(
        self,
        x: Float[Array, "... inputs"],
        result: DTypeLike | None = None,
        onto: Float[Array, "... outputs"] | None = None,
    ) -> Float[Array, "... outputs"]:
        """Without the bias, as `result`, or as the dtype of `x` when left out, added to `onto`."""
        return contract(x, self.kernel[...], result, onto)


def normal(shape: tuple[int, ...], inputs: int, rngs: nnx.Rngs, dtype: DTypeLike) -> nnx.Param:
    """Random weights whose products with unit features have unit variance."""
    drawn = jax.random.normal(rngs.params(), shape, jnp.float32)
    return nnx.Param(drawn.astype(dtype) * inputs**-0.5)


def contract(
    x: Float[Array, "... inputs"],
    kernel: Float[Array, "outputs inputs"],
    result: DTypeLike | None = None,
    onto: Float[Array, "... outputs"] | None = None,
) -> Float[Array, "... outputs"]:
    """Contract the last axes of both: `[..., inputs]`, `[outputs, inputs]` -> `[..., outputs]`.

    `result` is the dtype of the outcome, that of `x` when left out; it is added to `onto`. A single
    row meets the kernel in parts.
    """
    if kernels.fit("product", x, kernel):
        return kernels.product(x, kernel, onto)
    if kernels.fit("many", x, kernel):
        return kernels.product(x, kernel, onto, many=kernel.shape[0] > ONES)
    rows = x.reshape(-1, x.shape[-1])
    if rows.shape[0] == 1 and kernel.shape[0] % PARTS == 0 and kernel.shape[0] > ONES:
        parts = kernel.reshape(PARTS, -1, kernel.shape[1])
        row = jnp.broadcast_to(rows[None], (PARTS, *rows.shape))
        contracted, batch = ((2,), (2,)), ((0,), (0,))
    else:
        parts, row = kernel, rows
        contracted, batch = ((1,), (1,)), ((), ())
    out = jax.lax.dot_general(
        row,
        parts,
        (contracted, batch),
        precision=exact(x.dtype),
        preferred_element_type=result,
    )
    out = out.reshape(*x.shape[:-1], kernel.shape[0])
    return out if onto is None else onto + out


def projected(
    linear: Projection,
    x: Float[Array, "... inputs"],
    onto: Float[Array, "... outputs"] | None = None,
) -> Float[Array, "... outputs"]:
    """A projection whose inputs may be divided among devices: their parts are added, then the
    bias, and all of it to `onto`."""
    if linear.bias is None and parts() == 1:
        return linear.product(x, onto=onto)
    y = summed(linear.product(x))
    y = y if linear.bias is None else y + along_last(linear.bias[...], y)
    return y if onto is None else onto + y


def along_last(vector: Float[Array, "N"], like: Float[Array, "..."]) -> Float[Array, "..."]:
    """A vector over the last axis, with as many axes as `like`."""
    return vector.reshape((1,) * (like.ndim - 1) + (-1,))


def total(x: Float[Array, "... N"]) -> Float[Array, "... 1"]:
    """The sum over the last axis, in float32.

    As a product with ones: XLA's own reduction adds in another order for another batch size, the
    product does not, so that a row has the same bits in every batch.
    """
    return contract(x, jnp.ones((ONES, x.shape[-1]), jnp.float32))[..., :1]


def inverse_root(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """One over the square root. Not `rsqrt`, which XLA on CPU computes in another way for 64
    numbers or more, with other bits: many heads of many rows."""
    return jnp.power(x, -0.5)


class RMSNorm(nnx.Module):
    """Divide by the root mean square over the last axis, in float32, and scale."""

    def __init__(
        self,
        width: int,
        epsilon: float,
        *,
        kind: Norm = "rms",
        divided: bool = False,
        dtype: DTypeLike,
    ):
        # With an offset of 1, zeros scale by one.
        start = jnp.zeros if kind == "rms_offset" else jnp.ones
        self.scale = nnx.Param(start((width,), dtype))
        self.epsilon = epsilon
        self.kind = kind
        self.divided = divided
        """Whether the features of one row lie on several devices where a layer does."""

    def __call__(self, x: Float[Array, "... D"]) -> Float[Array, "... D"]:
        offset = 1.0 if self.kind == "rms_offset" else 0.0
        if kernels.fit("norm", x, self.scale[...]):
            return kernels.norm(x, self.scale[...], epsilon=self.epsilon, offset=offset)
        wide = x.astype(jnp.float32)
        mean = total(wide * wide) / x.shape[-1]
        if self.divided:
            mean = summed(mean) / parts()
        wide = wide * inverse_root(mean + self.epsilon)
        scale = along_last(self.scale[...], x)
        if self.kind == "rms":
            return scale * wide.astype(x.dtype)
        return (wide * (offset + scale.astype(jnp.float32))).astype(x.dtype)


class LayerNorm(nnx.Module):
    """Take off the mean over the last axis, divide by the deviation, scale and shift, in
    float32."""

    def __init__(self, width: int, epsilon: float, *, dtype: DTypeLike):
        self.scale = nnx.Param(jnp.ones((width,), dtype))
        self.bias = nnx.Param(jnp.zeros((width,), dtype))
        self.epsilon = epsilon

    def __call__(self, x: Float[Array, "... D"]) -> Float[Array, "... D"]:
        wide = x.astype(jnp.float32)
        wide = wide - total(wide) / x.shape[-1]
        variance = total(wide * wide) / x.shape[-1]
        wide = wide * inverse_root(variance + self.epsilon)
        scale, bias = (along_last(v[...], x).astype(jnp.float32) for v in (self.scale, self.bias))
        return (wide * scale + bias).astype(x.dtype)


def make_norm(
    kind: Norm, width: int, epsilon: float, dtype: DTypeLike, *, divided: bool = False
) -> RMSNorm | LayerNorm:
    """The norm of a configuration."""
    if kind == "layer":
        return LayerNorm(width, epsilon, dtype=dtype)
    return RMSNorm(width, epsilon, kind=kind, divided=divided, dtype=dtype)
