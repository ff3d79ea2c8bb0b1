"""Teacher forcing: the same tokens scored by both, aligned, with what each thinks of the rest."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

from toolkit.experiments.compare.evidence import Scored
from toolkit.experiments.reading import LOWEST, Token

CLOSE = 0.1
"""Nats by which 16-bit arithmetic may let a target's scores of its own text differ from generation
to echo."""


def contradiction(
    forced: Sequence[Token] | None, text: Sequence[Token], made: Sequence[Token]
) -> float:
    """Largest difference between what a target thinks of a completion that it is given and of the
    same tokens when it generates them; 0 where nothing can be compared.

    `forced`: its scores of a prompt and the completion `text`; `made`: its own greedy completion,
    which is compared for as long as it is the same.
    """
    if not forced or len(forced) <= len(text):
        return 0.0
    worst = 0.0
    for told, given, own in zip(forced[len(forced) - len(text) :], text, made, strict=False):
        if not told.data == given.data == own.data:
            break
        if told.logprob is not None and own.logprob is not None:
            worst = max(worst, abs(told.logprob - own.logprob))
    return worst


def aligned(index: int, a: Sequence[Token], b: Sequence[Token]) -> Iterator[Scored]:
    """The tokens that both scored, matched from the end: a server may leave out the first.

    Nothing where they are not the same tokens.
    """
    count = min(len(a), len(b))
    pairs = list(zip(a[len(a) - count :], b[len(b) - count :], strict=True))
    if any(x.data != y.data for x, y in pairs):
        return
    for position, (x, y) in enumerate(pairs, start=len(a) - count):
        if _finite(x.logprob) and _finite(y.logprob):
            yield compared(index, position, x, y)


def compared(index: int, position: int, a: Token, b: Token) -> Scored:
    """One token as both see it."""
    assert a.logprob is not None and b.logprob is not None, "the caller has looked"
    return Scored(
        prompt_index=index,
        position=position,
        token=a.data,
        logprob_a=a.logprob,
        logprob_b=b.logprob,
        same_best=_same_best(a, b),
        divergence=divergence(a.top, b.top),
    )


def _finite(value: float | None) -> bool:
    return value is not None and value > LOWEST


def _same_best(a: Token, b: Token) -> bool | None:
    if not a.top or not b.top:
        return None
    best_a, best_b = (max(t.top, key=lambda key: t.top[key]) for t in (a, b))
    if best_a == best_b:
        return True
    # Where two are tied as far as a server writes numbers, either may be named.
    tied = a.top.get(best_b) == a.top[best_a] or b.top.get(best_a) == b.top[best_b]
    return tied


def divergence(a: Mapping[bytes, float], b: Mapping[bytes, float]) -> float:
    """Lower bound of KL(A || B) in nats: over shared tokens, all others taken as one.

    Merging outcomes never raises a divergence (data processing), so that the true one is no less.
    NaN without a shared token.
    """
    shared = [key for key in a if key in b and b[key] > LOWEST]
    if not shared:
        return math.nan
    p, q = ([math.exp(side[key]) for key in shared] for side in (a, b))
    p.append(max(0.0, 1.0 - sum(p)))
    q.append(max(1e-12, 1.0 - sum(q)))
    return max(0.0, sum(x * math.log(x / y) for x, y in zip(p, q, strict=True) if x > 1e-12))
