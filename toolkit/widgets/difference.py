"""Two sets of parameters at one position: how far apart what they draw from is."""

from __future__ import annotations

import dataclasses

import numpy as np

from toolkit.widgets.live import Live


@dataclasses.dataclass(frozen=True, kw_only=True)
class Difference:
    """How B differs from A."""

    total_variation: float
    """Half the summed distance of the probabilities: 0 for equal ones, 1 for disjoint ones."""
    divergence: float
    """Kullback-Leibler divergence of A from B, sum of a log(a / b), in nats; infinite where B
    cannot draw what A can."""
    reverse: float
    """The other way round."""
    fates: tuple[int, ...]
    """Tokens that one of them can draw and the other cannot, the model's most probable first."""


def difference(a: Live, b: Live) -> Difference:
    """Compare two views of the same position."""
    changed = np.flatnonzero(a.alive != b.alive)
    by_probability = changed[np.argsort(-a.raw[changed], kind="stable")]
    return Difference(
        total_variation=float(np.abs(a.sampled - b.sampled).sum() / 2),
        divergence=_divergence(a.sampled, b.sampled),
        reverse=_divergence(b.sampled, a.sampled),
        fates=tuple(by_probability.tolist()),
    )


def _divergence(a: np.ndarray, b: np.ndarray) -> float:
    held = a > 0
    if (b[held] == 0).any():
        return np.inf
    return max(0.0, float(a[held] @ np.log(a[held] / b[held])))
