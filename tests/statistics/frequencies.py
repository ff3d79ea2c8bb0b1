"""Do counts fit a distribution? By exact binomial tails: a false alarm is as rare as stated."""

from __future__ import annotations

import numpy as np
from scipy.stats import binom

FALSE_ALARM = 1e-6
"""Largest probability that counts of the right distribution fail a test."""

RARE = 5
"""Cells expected fewer times than this are one cell together."""


def fit(counts: np.ndarray, probabilities: np.ndarray) -> float:
    """Probability that the right distribution lies as far out somewhere, at most: in [0, 1].

    Looked at are each cell, and the 1, 2, 4, ... most probable cells together, where a change of
    many cells shows. Each such count is binomial, whatever the others are, so twice its smaller
    tail is at most `a` with probability at most `a`; the smallest one times their number bounds
    them all. A count where the probability is 0 gives 0.
    """
    if (counts[probabilities == 0] > 0).any():
        return 0.0
    n = int(counts.sum())
    order = np.argsort(-probabilities, kind="stable")
    counts, p = counts[order], probabilities[order]
    heads = 2 ** np.arange(int(np.log2(len(p))) + 1) - 1
    common = n * p >= RARE
    found = np.concatenate([counts[common], [counts[~common].sum()], np.cumsum(counts)[heads]])
    mass = np.concatenate([p[common], [p[~common].sum()], np.cumsum(p)[heads]])
    # A sum of probabilities may pass 1 by a rounding.
    mass = np.where(mass > 1 - 1e-12, 1.0, mass)
    tails = 2 * np.minimum(binom.cdf(found, n, mass), binom.sf(found - 1, n, mass))
    return float(min(1.0, tails.min() * len(found)))
