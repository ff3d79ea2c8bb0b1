"""Are two samples of categories from one distribution? By Fisher's exact test, or by permuting."""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Hashable, Sequence

import numpy as np
from scipy.stats import hypergeom

FIRST, SECOND = 9_999, 199_999
"""Permutations at first, and those for a p-value that the first ones cannot tell from 0."""
EXTREME = 1e-3
"""A first p-value at or below this is replaced by one from the second, independent round."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class CountTest:
    """Whether two samples of categories differ."""

    p: float
    """Probability of a difference at least this large if both have one distribution."""
    effect: float
    """Cramér's V with Bergsma's correction for bias: 0 no association, 1 no common category."""
    exact: bool
    """Whether `p` is a sum over all tables; otherwise it is from random permutations."""
    categories: int


def count_test(a: Sequence[Hashable], b: Sequence[Hashable], rng: np.random.Generator) -> CountTest:
    """Test two samples of categories (first tokens, choices, whole texts) against each other.

    The statistic is Pearson's chi-squared; its distribution is that of drawing `len(a)` of all
    items without replacement, so that rare categories need no care. Two categories: Fisher's exact
    test, two-sided. More: permutations, and P(p <= x) <= x holds for every x. One: p is 1.

    Sources: Phipson and Smyth 2010, arXiv 1603.05766; Bergsma 2013, J. Korean Stat. Soc. 42(3).
    """
    first, second = collections.Counter(a), collections.Counter(b)
    keys = sorted({*first, *second}, key=repr)
    observed = np.array([first[key] for key in keys])
    totals = observed + np.array([second[key] for key in keys])
    if len(keys) < 2 or not len(a) or not len(b):
        return CountTest(p=1.0, effect=0.0, exact=True, categories=len(keys))
    exact = len(keys) == 2
    p = _fisher(observed, totals) if exact else _permuted(observed, totals, rng)
    return CountTest(p=p, effect=_effect(observed, totals), exact=exact, categories=len(keys))


def _squared(drawn: np.ndarray, totals: np.ndarray) -> np.ndarray:
    """Chi-squared up to a factor that the margins fix: `[..., K]`, `[K]` -> `[...]`."""
    expected = totals * (drawn.sum(axis=-1, keepdims=True) / totals.sum())
    return ((drawn - expected) ** 2 / totals).sum(axis=-1)


def _fisher(observed: np.ndarray, totals: np.ndarray) -> float:
    count = int(observed.sum())
    ones = np.arange(max(0, count - totals[1]), min(count, totals[0]) + 1)
    tables = np.stack([ones, count - ones], axis=-1)
    mass = hypergeom.pmf(ones, totals.sum(), totals[0], count)
    far = _squared(tables, totals) >= _squared(observed, totals) * (1 - 1e-9)
    return float(min(1.0, mass[far].sum()))


def _permuted(observed: np.ndarray, totals: np.ndarray, rng: np.random.Generator) -> float:
    p = _share(observed, totals, rng, FIRST)
    return _share(observed, totals, rng, SECOND) if p <= EXTREME else p


def _share(
    observed: np.ndarray, totals: np.ndarray, rng: np.random.Generator, rounds: int
) -> float:
    """Share of permutations that are at least as far out, the data themselves counted as one."""
    limit, far, left = _squared(observed, totals) * (1 - 1e-9), 0, rounds
    while left:
        batch = min(left, 1 + 2_000_000 // len(totals))
        drawn = rng.multivariate_hypergeometric(totals, int(observed.sum()), size=batch)
        far += int((_squared(drawn, totals) >= limit).sum())
        left -= batch
    return (1 + far) / (1 + rounds)


def _effect(observed: np.ndarray, totals: np.ndarray) -> float:
    n, count, k = int(totals.sum()), int(observed.sum()), len(totals)
    # The other row of the table is off by as much; together they make chi-squared over n.
    phi = float(_squared(observed, totals)) * n / (count * (n - count))
    excess = max(0.0, phi - (k - 1) / (n - 1))
    room = min(k - (k - 1) ** 2 / (n - 1), 2 - 1 / (n - 1)) - 1
    return float(np.sqrt(min(1.0, excess / room))) if room > 0 else 0.0
