"""Weights that are not what their name says."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from toolkit.completion.complete import LM
from toolkit.engine.engine import Engine
from toolkit.errors import InvalidRequest

BLOCK = 32
"""Values that share a scale, as in most quantised files."""


def quantised_weights(lm: LM, *, bits: int = 4) -> LM:
    """The same model with each matrix rounded to `bits` bits, a scale for 32 values of a row:
    another loaded model.

    Needs as much memory again; close it after use.
    """
    if not 2 <= bits <= 16:
        raise InvalidRequest(f"`bits` must be in [2, 16], got {bits!r:.20}.", param="bits")
    leaves = tuple(_rounded(leaf, bits) for leaf in lm.engine.leaves)
    engine = Engine(lm.engine.steps.rebuild(leaves), limits=lm.engine.limits, split=lm.engine.split)
    return LM(
        engine,
        lm.tokenizer,
        name=f"{lm.name}, {bits} bits",
        fingerprint=f"{lm.fingerprint}-{bits}bits",
        limits=lm.limits,
    )


def _rounded(leaf: jax.Array, bits: int) -> jax.Array:
    """The nearest of 2**bits - 1 evenly spaced values, for each block of a matrix."""
    if leaf.ndim < 2:
        return leaf
    wide = leaf.astype(jnp.float32)
    blocks = wide.reshape(-1, BLOCK if leaf.shape[-1] % BLOCK == 0 else leaf.shape[-1])
    scale = jnp.max(jnp.abs(blocks), axis=-1, keepdims=True) / (2 ** (bits - 1) - 1)
    steps = jnp.round(blocks / jnp.where(scale == 0, 1.0, scale))
    rounded = (steps * scale).reshape(leaf.shape).astype(leaf.dtype)
    return jax.device_put(rounded, leaf.sharding)
