"""A metric on the same prompts twice: the mean difference, its interval, and a p-value."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
from scipy.stats import bootstrap, permutation_test

RESAMPLES = 9_999
CONFIDENCE = 0.95


@dataclasses.dataclass(frozen=True, kw_only=True)
class PairedDifference:
    """Second minus first, a mean over prompts."""

    mean: float
    low: float
    """Of the interval that holds the true mean in 95 of 100 such comparisons."""
    high: float
    p: float
    """Of a sign-flip test that the differences are symmetric about 0."""
    effect: float
    """Mean difference in standard deviations of the differences (Cohen's d for pairs); NaN where
    they do not vary."""
    pairs: int


def paired_difference(
    first: Sequence[float], second: Sequence[float], rng: np.random.Generator
) -> PairedDifference:
    """Compare one number a prompt. Pairs in which one is NaN are left out; NaN without any.

    The interval is the bias-corrected and accelerated bootstrap's, over prompts. Prompts vary more
    than anything else here, so that leaving out the pairing would hide most differences.
    """
    gaps = np.asarray(second, np.float64) - np.asarray(first, np.float64)
    gaps = gaps[~np.isnan(gaps)]
    if not len(gaps):
        return PairedDifference(mean=np.nan, low=np.nan, high=np.nan, p=1.0, effect=np.nan, pairs=0)
    mean = float(gaps.mean())
    if len(gaps) < 2 or np.ptp(gaps) <= 1e-12 * max(1.0, abs(mean)):
        p = 1.0 if mean == 0 else 2.0 ** (1 - len(gaps))
        return PairedDifference(mean=mean, low=mean, high=mean, p=p, effect=np.nan, pairs=len(gaps))
    interval = bootstrap(
        (gaps,), np.mean, n_resamples=RESAMPLES, confidence_level=CONFIDENCE, rng=rng
    ).confidence_interval
    flipped = permutation_test(
        (gaps,),
        np.mean,
        permutation_type="samples",
        n_resamples=RESAMPLES,
        rng=rng,
        vectorized=True,
    )
    return PairedDifference(
        mean=mean,
        low=float(interval.low),
        high=float(interval.high),
        p=float(flipped.pvalue),
        effect=mean / float(gaps.std(ddof=1)),
        pairs=len(gaps),
    )
