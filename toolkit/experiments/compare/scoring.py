"""Teacher forcing: the same tokens scored by both, aligned, with what each thinks of the rest."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from toolkit.errors import InvalidRequest, RunError, TargetError
from toolkit.experiments.compare.evidence import Scored
from toolkit.experiments.reading import LOWEST, Token, choices
from toolkit.experiments.target import Target

TOP = 5
"""Alternatives that are asked for."""


def scores(target: Target, prompt: str | Sequence[int]) -> list[Token] | None:
    """The tokens of a prompt with their log-probabilities; None where the target gives none.

    Servers that refuse `max_tokens` 0, or generate a token nevertheless, are asked for one; it is
    left out.
    """
    strict = getattr(target, "dialect", "") == "strict"
    shown = prompt if isinstance(prompt, str) else list(prompt)
    fields: dict[str, Any] = {"prompt": shown, "echo": True, "temperature": 0}
    fields["logprobs"] = True if strict else TOP
    for most in (0, 1):
        try:
            answer = target.complete({**fields, "max_tokens": most})
            found = list(choices(answer)[0].tokens)
        except (InvalidRequest, RunError):
            continue
        except TargetError as error:
            if error.code is None:
                raise
            continue
        if isinstance(prompt, str):
            kept = _of_text(found, prompt)
        else:
            kept = found[: len(prompt) - (1 if strict else 0)]
        if any(token.logprob is not None for token in kept):
            return kept
    return None


def _of_text(tokens: list[Token], text: str) -> list[Token]:
    """The tokens that spell a text: those after it were generated."""
    whole, kept = len(text.encode()), []
    size = 0
    for token in tokens:
        if size >= whole:
            break
        size += len(token.data)
        kept.append(token)
    return kept


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
