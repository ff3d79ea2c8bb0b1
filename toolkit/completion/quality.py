"""What a cheaper precision costs: perplexity, and how far the distributions move."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from toolkit.completion.text import Tokenizer
from toolkit.engine.steps import Steps
from toolkit.errors import InvalidRequest
from toolkit.models import Decoder, KVCache, catalog, checkpoint
from toolkit.models.compiler import jit

WINDOW = 256
"""Tokens that are scored in one go; none sees those of another window."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Quality:
    """A model at some precision beside the same model in float32, on one text."""

    tokens: int
    """Scored: all but the first of each window."""
    reference_perplexity: float
    """Of the model in float32."""
    perplexity: float
    """At the precision asked for."""
    kl: float
    """Mean over positions of the Kullback-Leibler divergence from float32, in nats."""
    kl_worst: float
    """At the position where it is largest."""
    agreement: float
    """Share of positions where both find the same token most probable."""


def quality(
    model: str | Path | None = None,
    *,
    quant: str | None = None,
    dtype: str = "float32",
    text: str | None = None,
) -> Quality:
    """Score a text with the model in float32 and at another precision.

    `model` as for `load`; `quant` and `dtype` are the precision; `text` is English prose, code and
    a table of 900 tokens if left out. Both are loaded at once.
    Raises InvalidRequest for a text of fewer than two tokens, and what `load` raises.
    """
    folder = catalog.resolve(model)
    reference = checkpoint.load(folder)
    tokenizer = Tokenizer.from_folder(folder, vocab_size=reference.config.vocab_size)
    ids = tokenizer.encode(shipped_text() if text is None else text)
    if len(ids) < 2:
        raise InvalidRequest(
            f"`text` has {len(ids)} tokens; a token is scored by those before it, so that at least "
            "2 are needed. Give a longer text.",
            param="text",
        )
    other = checkpoint.load(folder, dtype=jnp.dtype(dtype), quant=quant)
    return compared(reference, other, ids, dtype=jnp.dtype(dtype))


def shipped_text() -> str:
    """The text that is scored when none is given."""
    return files("toolkit.completion").joinpath("quality.txt").read_text(encoding="utf-8")


def compared(reference: Decoder, other: Decoder, ids: list[int], *, dtype: DTypeLike) -> Quality:
    """The comparison on token ids. `dtype` is that of the other's cache."""
    sides = [_scorer(reference, jnp.float32), _scorer(other, dtype)]
    losses: list[tuple[np.ndarray, np.ndarray]] = []
    divergences: list[np.ndarray] = []
    same: list[np.ndarray] = []
    for window in _windows(ids, min(WINDOW, reference.config.context)):
        target = (np.arange(len(window) - 1), window[1:])
        one, two = (side(window)[:-1] for side in sides)
        losses.append((-one[target], -two[target]))
        divergences.append(np.sum(np.exp(one) * (one - two), axis=-1))
        same.append(one.argmax(axis=-1) == two.argmax(axis=-1))
    first, second = (np.concatenate(side).mean() for side in zip(*losses, strict=True))
    kl = np.concatenate(divergences)
    return Quality(
        tokens=len(kl),
        reference_perplexity=math.exp(first),
        perplexity=math.exp(second),
        kl=float(kl.mean()),
        kl_worst=float(kl.max()),
        agreement=float(np.concatenate(same).mean()),
    )


def _windows(ids: list[int], length: int) -> Iterator[np.ndarray]:
    """The text in pieces of `length` tokens; a last one with nothing to predict is left out."""
    for start in range(0, len(ids), length):
        if len(window := ids[start : start + length]) > 1:
            yield np.asarray(window, np.int32)


def _scorer(decoder: Decoder, dtype: DTypeLike) -> Any:
    """`score(ids[T]) -> log-probabilities[T, V]` in float64, one program for every T."""
    steps, leaves = Steps.of(decoder)
    length = min(WINDOW, decoder.config.context)

    @jit
    def run(leaves: tuple, tokens: jax.Array, cache: KVCache) -> jax.Array:
        rebuilt = steps.rebuild(leaves)
        hidden, _ = rebuilt(tokens, jnp.zeros(1, jnp.int32), cache)
        return jax.nn.log_softmax(rebuilt.logits(hidden[0]), axis=-1)

    def score(ids: np.ndarray) -> np.ndarray:
        cache = KVCache.zeros(decoder.config, rows=1, slots=length, dtype=np.dtype(dtype))
        tokens = np.zeros((1, length), np.int32)
        tokens[0, : len(ids)] = ids
        return np.asarray(run(leaves, tokens, cache), np.float64)[: len(ids)]

    return score
