"""The key/value cache: slot number = position, written in place."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Int

from toolkit.models.config import ModelConfig

ONES = 8
"""Columns of ones in a sum's product; fewer than eight go to another CPU kernel."""


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class LayerCache:
    """Keys and values of one layer: `[B * H_kv, S, K]` each, the heads of a row side by side.

    Rows and heads share an axis because both are batch axes of attention's two products. Kept
    apart, a batch of one row makes XLA on CPU copy the whole cache for every layer.
    """

    keys: Float[Array, "BH S K"]
    values: Float[Array, "BH S K"]

    def write(
        self, start: Int[Array, "B"], k: Float[Array, "B H T K"], v: Float[Array, "B H T K"]
    ) -> LayerCache:
        """Put T new tokens of row b into slots `start[b] ..`. A start beyond S - T is moved back to
        it.

        One small update a row, not a scatter: each is done in place in the donated buffer.
        """
        keys, values, heads = self.keys, self.values, k.shape[1]
        for row in range(k.shape[0]):
            at = (row * heads, start[row], 0)
            keys = jax.lax.dynamic_update_slice(keys, k[row], at)
            values = jax.lax.dynamic_update_slice(values, v[row], at)
        return LayerCache(keys=keys, values=values)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class KVCache:
    """All layers' keys and values."""

    layers: tuple[LayerCache, ...]

    @classmethod
    def zeros(cls, config: ModelConfig, *, rows: int, slots: int, dtype: DTypeLike) -> KVCache:
        """An empty cache for `rows` sequences of up to `slots` tokens.

        Uploaded, not computed: no program is compiled and none waits behind those that run.
        """
        shape = (rows * config.kv_heads, slots, config.head_width)
        empty = np.zeros(shape, dtype)
        return cls(
            layers=tuple(
                LayerCache(keys=upload(empty), values=upload(empty)) for _ in range(config.layers)
            )
        )


def upload(array: np.ndarray) -> Array:
    """A device array with memory of its own, so that it may be donated."""
    return jax.device_put(array, may_alias=False)


def attend(
    q: Float[Array, "B N T K"],
    layer: LayerCache,
    start: Int[Array, "B"],
    *,
    scale: float | None = None,
    cap: float | None = None,
    window: int | None = None,
) -> Float[Array, "B N T K"]:
    """Causal attention of T queries over the cache: `[B, H, T, K]` -> `[B, H, T, K]`.

    Query t of row b sees slots 0 .. start[b] + t, or the last `window` of them. `scale` multiplies
    the scores, None for K ** -0.5; `cap` is their soft limit. Scores and softmax are float32.
    """
    batch, heads, length, width = q.shape
    both, slots = layer.keys.shape[:2]
    precision = exact(q.dtype)
    grouped = q.reshape(both, batch * heads // both * length, width)
    # One query a row: on CPU the product is faster with the keys on the left; the barrier keeps XLA
    # from turning it round.
    left, right = (layer.keys, grouped) if length == 1 else (grouped, layer.keys)
    scores = jax.lax.dot_general(
        left,
        right,
        (((2,), (2,)), ((0,), (0,))),
        precision=precision,
        preferred_element_type=jnp.float32,
    )
    if length == 1:
        scores = jnp.swapaxes(jax.lax.optimization_barrier(scores), 1, 2)
    scores = scores.reshape(batch, heads, length, slots) * (width**-0.5 if scale is None else scale)
    scores = scores if cap is None else capped(scores, cap)
    last = start[:, None] + jnp.arange(length, dtype=jnp.int32)[None, :]
    slot = jnp.arange(slots, dtype=jnp.int32)[None, None, :]
    visible = slot <= last[:, :, None]
    if window is not None:
        visible &= slot > last[:, :, None] - window
    scores = jnp.where(visible[:, None, :, :], scores, -jnp.inf)
    weights = jnp.exp(scores - jnp.max(scores, axis=-1, keepdims=True))
    total = along_slots(weights)
    mixed = jax.lax.dot_general(
        weights.astype(layer.values.dtype).reshape(both, -1, slots),
        layer.values,
        (((2,), (1,)), ((0,), (0,))),
        precision=precision,
        preferred_element_type=jnp.float32,
    )
    return (mixed.reshape(batch, heads, length, width) / total).astype(q.dtype)


def capped(x: Float[Array, "..."], cap: float) -> Float[Array, "..."]:
    """A soft limit: x near zero stays, and nothing passes `cap` in size."""
    return jnp.tanh(x / cap) * cap


def along_slots(weights: Float[Array, "B N T S"]) -> Float[Array, "B N T 1"]:
    """The sum over the slots. As a product with ones: on CPU a reduction adds in another order for
    fewer than some thousand numbers, the product adds alike for every number of rows and slots."""
    sums = jax.lax.dot_general(
        weights.reshape(-1, weights.shape[-1]),
        jnp.ones((ONES, weights.shape[-1]), weights.dtype),
        (((1,), (1,)), ((), ())),
        precision=jax.lax.Precision.HIGHEST,
    )
    return sums[:, :1].reshape(*weights.shape[:-1], 1)


def exact(dtype: jnp.dtype) -> jax.lax.Precision | None:
    """The precision of a product: float32 stays float32 (a GPU would round it to 10 bits)."""
    return jax.lax.Precision.HIGHEST if dtype == jnp.float32 else None
