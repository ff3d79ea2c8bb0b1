"""The key/value cache: slot number = position, written in place."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Int

from toolkit.models.config import ModelConfig


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
class SharedPrefixes:
    """Where the same numbers are twice: the first `length[b]` slots of row b of the cache hold what
    those of row `source[b]` do, so that attention may read them there, once for many rows."""

    source: Int[Array, "B"]
    length: Int[Array, "B"]

    @classmethod
    def none(cls, rows: int) -> SharedPrefixes:
        """Every row reads its own slots."""
        return cls(source=jnp.zeros(rows, jnp.int32), length=jnp.zeros(rows, jnp.int32))


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
