"""One draw from a distribution on display, by the sampler's own rule and with its own numbers."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np

from toolkit.sampling.draw import uniforms
from toolkit.sampling.params import seed_words
from toolkit.sampling.sums import BLOCK
from toolkit.widgets.live import Live


def draw(shown: Live, *, step: int) -> int:
    """The token that a request with these parameters draws here as its `step`-th, from 0.

    As in `toolkit.sampling.draw`: a block of ids first, then a token within it.
    """
    first, second = _uniforms(shown.params.seed, shown.params.choice, step)
    padded = np.pad(shown.sampled, (0, -len(shown.sampled) % BLOCK))
    blocks = padded.reshape(-1, BLOCK)
    block = _inverted(blocks.sum(axis=1), first)
    return block * BLOCK + _inverted(blocks[block], second)


def _uniforms(seed: int, choice: int, step: int) -> tuple[float, float]:
    words = jnp.asarray([seed_words(seed)], jnp.uint32)
    one, two = uniforms(
        words, jnp.asarray([choice], jnp.uint32), jnp.asarray([step], jnp.int32)
    ).tolist()[0]
    return one, two


def _inverted(mass: np.ndarray, uniform: float) -> int:
    """First index with mass whose cumulative mass exceeds `uniform` times the whole."""
    cumulative = np.cumsum(mass)
    held = np.flatnonzero(mass > 0)
    beyond = held[cumulative[held] > uniform * cumulative[-1]]
    return int(beyond[0]) if len(beyond) else int(held[-1])
