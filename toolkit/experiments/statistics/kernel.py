"""Are two samples of texts from one distribution, prompt by prompt? By a kernel two-sample test.

In the manner of model equality testing (Gao, Liang and Guestrin 2024, arXiv 2410.20247): maximum
mean discrepancy with a Hamming kernel over the characters of completions of the same prompt, and
permutations within each prompt for the p-value.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

PERMUTATIONS, MORE = 9_999, 99_999
"""At first, and for a p-value that those cannot tell from 0."""
EXTREME = 1e-3
Group = tuple[Sequence[str], Sequence[str]]
"""Completions of one prompt by the one and by the other."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class KernelTest:
    """Whether two samples of texts differ."""

    p: float
    """Probability of a difference at least this large if both have one distribution."""
    effect: float
    """Squared maximum mean discrepancy, unbiased, a mean over prompts. 0 is no difference (chance
    makes it negative too); 1 is texts that are always the same, but never the other's."""
    prompts: int
    samples: int
    """Texts of both together."""
    by_prompt: tuple[float, ...]
    """The discrepancy of each prompt; NaN where one has fewer than two texts."""


def kernel_test(
    groups: Sequence[Group],
    rng: np.random.Generator,
    *,
    length: int | None = None,
    permutations: int = PERMUTATIONS,
    more: int = MORE,
) -> KernelTest:
    """Test all prompts together.

    The kernel of two completions of one prompt is the share of the first `length` characters (None:
    of the longest text) that agree place by place, shorter texts padded; of different prompts it
    is 0. A p-value of at most `EXTREME` is replaced by one from `more` new permutations. P(p <= x)
    <= x holds for every x, with equality but for ties; the smallest p-value is 1 / (more + 1).
    """
    pools = [
        (agreement([*a, *b], length), len(a)) if len(a) > 1 and len(b) > 1 else None
        for a, b in groups
    ]
    used = [pool for pool in pools if pool is not None]
    observed = [np.nan if pool is None else _observed(*pool) for pool in pools]
    p = _share(used, float(np.nansum(observed)), rng, permutations) if used else 1.0
    if used and p <= EXTREME and more:
        p = _share(used, float(np.nansum(observed)), rng, more)
    return KernelTest(
        p=p,
        effect=float(np.nanmean(observed)) if used else 0.0,
        prompts=len(used),
        samples=sum(len(gram) for gram, _ in used),
        by_prompt=tuple(observed),
    )


def _observed(gram: np.ndarray, count: int) -> float:
    return float(discrepancy(gram, _labels(1, gram, count))[0])


def _labels(rows: int, gram: np.ndarray, count: int) -> np.ndarray:
    """1 for the texts of the first sample, as they came: `[rows, N]`."""
    taken = np.zeros((rows, len(gram)))
    taken[:, :count] = 1.0
    return taken


def _share(
    pools: Sequence[tuple[np.ndarray, int]], observed: float, rng: np.random.Generator, rounds: int
) -> float:
    """Share of permutations that are at least as far apart, the data themselves counted as one."""
    limit, far, left = observed - 1e-9 * max(1.0, abs(observed)), 0, rounds
    while left:
        batch = min(left, PERMUTATIONS)
        found = np.zeros(batch)
        for gram, count in pools:
            found += discrepancy(gram, rng.permuted(_labels(batch, gram, count), axis=1))
        far += int((found >= limit).sum())
        left -= batch
    return (1 + far) / (1 + rounds)


def agreement(texts: Sequence[str], length: int | None = None) -> np.ndarray:
    """Share of places with equal characters of each pair of texts: `[N, N]`, 1 on the diagonal."""
    width = max(1, max(map(len, texts)) if length is None else length)
    codes = np.full((len(texts), width), -1, np.int32)
    for row, text in zip(codes, texts, strict=True):
        points = [ord(character) for character in text[:width]]
        row[: len(points)] = points
    return (codes[:, None, :] == codes[None, :, :]).mean(axis=-1)


def discrepancy(gram: np.ndarray, taken: np.ndarray) -> np.ndarray:
    """Unbiased squared discrepancy of each split of one pool: `[N, N]`, `[P, N]` -> `[P]`.

    `taken` is 1 for the texts of the first sample, 0 for those of the second; each row has as many.
    """
    inner = ((taken @ gram) * taken).sum(axis=1)
    sums = taken @ gram.sum(axis=1)
    count = taken[0].sum()
    other = len(gram) - count
    first = (inner - count) / (count * (count - 1))
    rest = gram.sum() - 2 * sums + inner
    second = (rest - other) / (other * (other - 1))
    return first + second - 2 * (sums - inner) / (count * other)
