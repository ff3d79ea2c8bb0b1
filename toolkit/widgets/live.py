"""What the sampler would do with one row of logits, in NumPy: fast enough for a slider.

The same transforms in the same order as `toolkit.sampling.transforms`, for one position. Logits are
edited in float32 as there; masses are summed in float64. Nothing here runs the model, and nothing
compiles.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence

import numpy as np

from toolkit.sampling.drawn import DROPPED_BY
from toolkit.sampling.params import Report, Rows, SamplingParams
from toolkit.sampling.smallest import ROUNDING


@dataclasses.dataclass(frozen=True, eq=False)
class Row:
    """The model's own view of a position, and what follows from it alone."""

    logits: np.ndarray
    """`[V]` float32."""

    @functools.cached_property
    def probabilities(self) -> np.ndarray:
        """`[V]` float64."""
        return softmax(self.logits)

    @functools.cached_property
    def entropy(self) -> float:
        """In nats."""
        return entropy(self.probabilities)


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Position:
    """A place in a text: what the model says there and what stands before it."""

    row: Row
    prompt: Sequence[int] = ()
    generated: Sequence[int] = ()
    allowed: Sequence[int] | None = None
    """Ids that a guide allows here; None is no guide."""


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Live:
    """One position under one set of parameters. Arrays are `[V]`; entropies are in nats."""

    position: Position
    params: SamplingParams
    tempered: np.ndarray
    """Probabilities that top_p meets: after bias, penalties, guide, temperature and top_k."""
    sampled: np.ndarray
    """Probabilities that the token is drawn from."""
    dropped: np.ndarray
    """What dropped a token, an index of `DROPPED_BY`; 0 for one that can be drawn, and where the
    model itself rules it out."""

    @property
    def raw(self) -> np.ndarray:
        """The model's own probabilities."""
        return self.position.row.probabilities

    @functools.cached_property
    def alive(self) -> np.ndarray:
        """Which tokens can be drawn."""
        return (self.dropped == 0) & (self.position.row.logits > -np.inf)

    @property
    def nucleus(self) -> int:
        """How many of the tokens that top_p meets it keeps."""
        if self.params.top_p >= 1:
            return int(np.count_nonzero(self.tempered))
        return _needed(falling(self.tempered), self.params.top_p)

    @property
    def support(self) -> int:
        """How many tokens can be drawn."""
        return int(np.count_nonzero(self.alive))

    @property
    def kept_mass(self) -> float:
        """The model's own probability of the tokens that can be drawn."""
        return float(self.raw[self.alive].sum())

    @property
    def entropy(self) -> float:
        """Of the model's own distribution."""
        return self.position.row.entropy

    @functools.cached_property
    def sampling_entropy(self) -> float:
        """Of the distribution that the token is drawn from."""
        return entropy(self.sampled)

    def rank(self, token: int) -> int:
        """Place among the model's own probabilities, 1 for the largest."""
        logits = self.position.row.logits
        own = logits[token]
        return 1 + int(np.sum(logits > own) + np.sum(logits[:token] == own))

    def dropped_by(self, token: int) -> str | None:
        """The transform that rules a token out; None if it can be drawn."""
        return DROPPED_BY[self.dropped[token]]


def live(position: Position, params: SamplingParams) -> Live:
    """The distribution at a position: `[V]` logits and parameters -> `Live`."""
    rows = Rows.stack([params], [Report()])
    logits = position.row.logits
    dropped = np.zeros(logits.shape, np.int8)

    def note(before: np.ndarray, after: np.ndarray, name: str) -> np.ndarray:
        dropped[(before > -np.inf) & (after == -np.inf)] = DROPPED_BY.index(name)
        return after

    # A tiny temperature sends logits to -inf, and two of those have no difference.
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        x = _biased(logits.copy(), rows)
        x = _penalised(x, rows, position)
        x = note(logits, x, "penalties")
        if position.allowed is not None:
            x = note(x, _guided(x, position.allowed), "guide")
        if len(position.generated) < params.min_tokens:
            x = note(x, _without_stops(x, rows), "min_tokens")
        x = note(x, _tempered(x, rows), "temperature")
        x = tempered = note(x, _top_k(x, rows), "top_k")
        for name, truncate in TRUNCATIONS:
            x = note(x, truncate(x, rows), name)
    return Live(
        position=position,
        params=params,
        tempered=softmax(tempered),
        sampled=softmax(x),
        dropped=dropped,
    )


def softmax(logits: np.ndarray) -> np.ndarray:
    """Probabilities in float64: `[V]` -> `[V]`."""
    mass = np.exp((logits - logits.max()).astype(np.float64))
    return mass / mass.sum()


def entropy(probabilities: np.ndarray) -> float:
    """Of a distribution, in nats: `[V]` -> a number."""
    held = probabilities[probabilities > 0]
    return max(0.0, -float(held @ np.log(held)))


def falling(x: np.ndarray) -> np.ndarray:
    """The values from the largest to the smallest: `[V]` -> `[V]`. Far faster than an argsort."""
    return np.sort(x)[::-1]


# --- the transforms, each on one row; `toolkit.sampling.transforms` says what they mean -----------


def _biased(x: np.ndarray, rows: Rows) -> np.ndarray:
    ids = np.asarray(rows.bias_ids[0])
    x[ids[ids >= 0]] += np.asarray(rows.bias_values[0])[ids >= 0]
    return x


def _penalised(x: np.ndarray, rows: Rows, position: Position) -> np.ndarray:
    repeat = np.float32(rows.repetition_penalty[0])
    generated = np.asarray(position.generated, np.int64)
    if repeat != 1:
        seen = np.unique(np.concatenate([np.asarray(position.prompt, np.int64), generated]))
        x[seen] = np.where(x[seen] > 0, x[seen] / repeat, x[seen] * repeat)
    ids, counts = np.unique(generated, return_counts=True)
    x[ids] -= np.float32(rows.frequency_penalty[0]) * counts.astype(np.float32)
    x[ids] -= np.float32(rows.presence_penalty[0])
    return x


def _guided(x: np.ndarray, allowed: Sequence[int]) -> np.ndarray:
    ids = np.asarray(allowed, np.int64)
    kept = np.full_like(x, -np.inf)
    kept[ids] = x[ids]
    if kept.max() == -np.inf:
        kept[ids] = 0
    return kept


def _without_stops(x: np.ndarray, rows: Rows) -> np.ndarray:
    ids = np.asarray(rows.stop_ids[0])
    held = x.copy()
    held[ids[ids >= 0]] = -np.inf
    return x if held.max() == -np.inf else held


def _tempered(x: np.ndarray, rows: Rows) -> np.ndarray:
    t = np.float32(rows.temperature[0])
    x = (x - x.max()) / (t if t != 0 else np.float32(1))
    if t == 0:
        first = np.argmax(x)
        x = np.full_like(x, -np.inf)
        x[first] = 0
    return x


def _top_k(x: np.ndarray, rows: Rows) -> np.ndarray:
    k = int(rows.top_k[0])
    return x if k <= 0 or k >= len(x) else _largest(x, falling(x), k)


def _top_p(x: np.ndarray, rows: Rows) -> np.ndarray:
    p = float(rows.top_p[0])
    if p >= 1:
        return x
    order = falling(x)
    return _largest(x, order, _needed(softmax(order), p))


def _min_p(x: np.ndarray, rows: Rows) -> np.ndarray:
    return np.where(x >= np.log(np.float32(rows.min_p[0])), x, np.float32(-np.inf))


def _typical_p(x: np.ndarray, rows: Rows) -> np.ndarray:
    p = float(rows.typical_p[0])
    if p >= 1:
        return x
    mass = softmax(x)
    # The surprisal of a token without mass is infinite, so it comes last.
    order = np.argsort(np.abs(-np.log(mass) - entropy(mass)), kind="stable")
    kept = np.full_like(x, -np.inf)
    ids = order[: _needed(mass[order], p)]
    kept[ids] = x[ids]
    return kept


def _needed(mass: np.ndarray, target: float) -> int:
    """How many of these masses, from the first on, reach `target`; at least one."""
    return 1 + int(np.searchsorted(np.cumsum(mass), target * (1 - ROUNDING)))


def _largest(x: np.ndarray, order: np.ndarray, count: int) -> np.ndarray:
    """Keep the `count` largest, among equals the lower ids. `order` holds them in falling order."""
    edge = order[min(count, len(order)) - 1]
    kept = x > edge
    kept[np.flatnonzero(x == edge)[: count - np.count_nonzero(kept)]] = True
    return np.where(kept, x, np.float32(-np.inf))


TRUNCATIONS = (("top_p", _top_p), ("min_p", _min_p), ("typical_p", _typical_p))
"""What comes after top_k, in the order of the pipeline."""
