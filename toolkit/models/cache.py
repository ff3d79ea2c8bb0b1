"""The key/value cache: slot number = position, written in place."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Int

from toolkit.models.config import ModelConfig

ONES = 8
"""Columns of ones in a sum's product; fewer than eight go to another CPU kernel."""

FEW = 16
"""Queries that read one head's cache together, of a prompt more, of decoding at most."""

Product = Callable[[Array, Array], Array]


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
        """An empty cache for `rows` sequences of up to `slots` tokens."""
        shape = (rows * config.kv_heads, slots, config.head_width)
        return cls(
            layers=tuple(
                LayerCache(keys=jnp.zeros(shape, dtype), values=jnp.zeros(shape, dtype))
                for _ in range(config.layers)
            )
        )


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
    grouped = q.reshape(both, batch * heads // both * length, width)
    alone = batch * length == 1 and jax.default_backend() == "cpu"
    scores = (
        apart(against_keys, grouped, layer.keys) if alone else against_keys(grouped, layer.keys)
    )
    scores = scores.reshape(batch, heads, length, slots) * (width**-0.5 if scale is None else scale)
    scores = scores if cap is None else capped(scores, cap)
    last = start[:, None] + jnp.arange(length, dtype=jnp.int32)[None, :]
    slot = jnp.arange(slots, dtype=jnp.int32)[None, None, :]
    visible = slot <= last[:, :, None]
    if window is not None:
        visible &= slot > last[:, :, None] - window
    scores = jnp.where(visible[:, None, :, :], scores, -jnp.inf)
    weights = jnp.exp(scores - jnp.max(scores, axis=-1, keepdims=True))
    shares = weights.astype(layer.values.dtype).reshape(both, -1, slots)
    mixed = apart(over_values, shares, layer.values) if alone else over_values(shares, layer.values)
    total = jnp.sum(weights, axis=-1, keepdims=True) if alone else along_slots(weights)
    return (mixed.reshape(batch, heads, length, width) / total).astype(q.dtype)


def against_keys(q: Float[Array, "N Q K"], keys: Float[Array, "N S K"]) -> Float[Array, "N Q S"]:
    """Each query's products with the keys, in float32."""
    # Few queries: on CPU the product is faster with the keys on the left; the barrier keeps XLA
    # from turning it round.
    few = q.shape[1] <= FEW
    scores = jax.lax.dot_general(
        *((keys, q) if few else (q, keys)),
        (((2,), (2,)), ((0,), (0,))),
        precision=exact(q.dtype),
        preferred_element_type=jnp.float32,
    )
    return jnp.swapaxes(jax.lax.optimization_barrier(scores), 1, 2) if few else scores


def over_values(
    shares: Float[Array, "N Q S"], values: Float[Array, "N S K"]
) -> Float[Array, "N Q K"]:
    """The values weighted by each query's shares, in float32."""
    return jax.lax.dot_general(
        shares,
        values,
        (((2,), (1,)), ((0,), (0,))),
        precision=exact(shares.dtype),
        preferred_element_type=jnp.float32,
    )


def apart(product: Product, left: Float[Array, "N Q A"], right: Array) -> Float[Array, "N Q C"]:
    """A product query by query, for a CPU: XLA has a quick path there for a matrix with a vector,
    and the threads that it wakes for a few queries together take longer than the work. An
    accelerator would read the cache anew for each."""
    each = [product(left[:, i : i + 1], right) for i in range(left.shape[1])]
    return jnp.concatenate(each, axis=1)


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
