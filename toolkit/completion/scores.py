"""Log-probabilities of given text, and exact probabilities of given choices. Nothing is drawn."""

from __future__ import annotations

import dataclasses
import heapq
import math
import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from toolkit.completion.record import TokenRecord
from toolkit.completion.request import Dialect, parse
from toolkit.completion.run import Run

if TYPE_CHECKING:
    from toolkit.completion.complete import LM

TOKENISATIONS = 64
"""A choice with more tokenisations is not summed over."""
BATCH = 64
"""Texts scored in one submission; bounds what waits in memory."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class TextScore:
    """A text and the model's view of each of its tokens."""

    tokens: tuple[TokenRecord, ...]
    """The first has no logprob: nothing conditions it."""

    @property
    def logprob(self) -> float:
        """Sum over the tokens that have one, in nats."""
        return math.fsum(t.logprob for t in self.tokens if t.logprob is not None)

    @property
    def perplexity(self) -> float:
        """exp of minus the mean logprob; NaN where no token has one."""
        count = sum(t.logprob is not None for t in self.tokens)
        return math.exp(-self.logprob / count) if count else math.nan


@dataclasses.dataclass(frozen=True, kw_only=True)
class ChoiceProbability:
    """How probable a continuation is. Logprobs are in nats."""

    choice: str
    logprob: float
    """Of the tokens that the tokenizer gives for it."""
    tokens: tuple[int, ...]
    logprob_sum: float | None
    """Log of the sum over all its tokenisations; None where there are more than 64."""
    share: float
    """Among the given choices, by `logprob`."""


def score(lm: LM, texts: Any, *, top: int, add_special_tokens: bool) -> list[TextScore]:
    """Score texts; see `LM.score`."""
    fields = {
        "prompt": texts,
        "prompt_logprobs": top,
        "max_tokens": 0,
        "add_special_tokens": add_special_tokens,
    }
    limits = dataclasses.replace(lm.limits, max_sequences=sys.maxsize)
    request = parse(fields, dialect=Dialect.PYTHON, limits=limits)
    scores: list[TextScore] = []
    for start in range(0, len(request.prompt), BATCH):
        part = dataclasses.replace(request, prompt=request.prompt[start : start + BATCH])
        scores += [TextScore(tokens=c.prompt_tokens) for c in Run(lm, part).finish().choices]
    return scores


def choose(lm: LM, prompt: str | Sequence[int], choices: Sequence[str]) -> list[ChoiceProbability]:
    """Exact probabilities of choices; see `LM.choose`."""
    request = parse(
        {"prompt": prompt, "guided_choice": choices, "max_tokens": 0}, dialect=Dialect.PYTHON
    )
    assert request.guided_choice is not None, "it was given"
    (given,) = request.prompt
    ids = tuple(lm.tokenizer.encode(given)) if isinstance(given, str) else given
    ways = [_tokenisations(lm, choice) for choice in request.guided_choice]
    sums = _sequence_logprobs(lm, ids, [way for group in ways for way in group])
    found: list[tuple[str, tuple[int, ...], float, float | None]] = []
    for choice, group in zip(request.guided_choice, ways, strict=True):
        logprobs = [next(sums) for _ in group]
        whole = _log_sum(logprobs) if len(group) <= TOKENISATIONS else None
        found.append((choice, group[0], logprobs[0], whole))
    norm = _log_sum([logprob for _, _, logprob, _ in found])
    return [
        ChoiceProbability(
            choice=choice,
            logprob=logprob,
            tokens=tokens,
            logprob_sum=whole,
            share=math.exp(logprob - norm),
        )
        for choice, tokens, logprob, whole in found
    ]


def _tokenisations(lm: LM, choice: str) -> list[tuple[int, ...]]:
    """The canonical tokens first, then every other way to spell the choice; cut after one too
    many."""
    canonical = tuple(lm.tokenizer.encode(choice, add_special_tokens=False))
    ways = [canonical]
    for way in _spellings(lm, choice.encode()):
        if way != canonical:
            ways.append(way)
        if len(ways) > TOKENISATIONS:
            return ways[:1] + ways[1:]
    return ways


def _spellings(lm: LM, text: bytes) -> Iterator[tuple[int, ...]]:
    """Every sequence of tokens with these bytes, those with the fewest tokens first."""
    heap: list[tuple[int, int, tuple[int, ...]]] = [(0, 0, ())]
    longest = max(map(len, lm.pieces))
    while heap:
        count, start, way = heapq.heappop(heap)
        if start == len(text):
            yield way
            continue
        for end in range(start + 1, min(len(text), start + longest) + 1):
            for token in lm.pieces.get(text[start:end], ()):
                heapq.heappush(heap, (count + 1, end, (*way, token)))


def _sequence_logprobs(
    lm: LM, prompt: tuple[int, ...], ways: Sequence[tuple[int, ...]]
) -> Iterator[float]:
    """The summed logprob of each continuation of a prompt."""
    sequences = [(*prompt, *way) for way in ways]
    for start in range(0, len(sequences), BATCH):
        batch = sequences[start : start + BATCH]
        for scored in score(lm, batch, top=0, add_special_tokens=False):
            tail = scored.tokens[len(prompt) :]
            yield math.fsum(t.logprob for t in tail if t.logprob is not None)


def _log_sum(logprobs: Sequence[float]) -> float:
    peak = max(logprobs)
    if peak == -math.inf:
        return peak
    return peak + math.log(math.fsum(math.exp(p - peak) for p in logprobs))
