"""What a loaded model says about some ids, computed from scratch: no engine, no cache, no batch."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np

import toolkit
from toolkit.models.cache import KVCache
from toolkit.models.compiler import jit

NextLogits = Callable[[Sequence[int]], np.ndarray]


def own_logits(lm: toolkit.LM, length: int) -> NextLogits:
    """The decoder's raw logits `[V]` after at most `length` ids."""
    steps, leaves = lm.engine.steps, lm.engine.leaves

    @jit
    def run(leaves: tuple, tokens: jax.Array, last: jax.Array) -> jax.Array:
        decoder = steps.rebuild(leaves)
        cache = KVCache.zeros(steps.config, rows=1, slots=length, dtype=leaves[0].dtype)
        hidden, _ = decoder(tokens, jnp.zeros(1, jnp.int32), cache)
        return decoder.logits(jax.lax.dynamic_slice_in_dim(hidden[0], last, 1))[0]

    def next_logits(ids: Sequence[int]) -> np.ndarray:
        tokens = np.zeros((1, length), np.int32)
        tokens[0, : len(ids)] = ids
        return np.asarray(run(leaves, tokens, np.int32(len(ids) - 1)))

    return next_logits
