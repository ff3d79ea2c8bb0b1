"""p-values of several tests together."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def holm(p: Sequence[float]) -> list[float]:
    """Holm's adjusted p-values, in the order given.

    Calling those at or below `a` significant makes any false alarm at all at most `a` probable,
    however the tests depend on each other. Source: Holm 1979, Scand. J. Statist. 6(2), 65-70.
    """
    values = np.asarray(p, np.float64)
    order = np.argsort(values, kind="stable")
    factors = len(values) - np.arange(len(values))
    stepped = np.minimum(np.maximum.accumulate(values[order] * factors), 1.0)
    adjusted = np.empty_like(stepped)
    adjusted[order] = stepped
    return adjusted.tolist()
