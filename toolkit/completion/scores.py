"""Log-probabilities of given text, and exact probabilities of given choices. Nothing is drawn."""

from __future__ import annotations

import dataclasses
import math
import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from toolkit.completion.record import TokenRecord
from toolkit.completion.request import Dialect, parse
from toolkit.completion.run import Run
from toolkit.errors import InvalidRequest

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
    """Among the given choices, by `logprob`; NaN where the model rules out all of them."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class ChoiceScore:
    """A continuation of a prompt and the model's view of its tokens."""

    choice: str
    tokens: tuple[TokenRecord, ...]

    @property
    def logprob(self) -> float:
        """Sum over the tokens, in nats: log p(choice | prompt) by the tokenizer's own tokens."""
        return math.fsum(t.logprob for t in self.tokens if t.logprob is not None)

    @property
    def mean_logprob(self) -> float:
        """Mean over the tokens, in nats; does not favour short choices."""
        return self.logprob / len(self.tokens)

    @property
    def greedy(self) -> bool:
        """Whether greedy decoding would have written it: every token is the most probable one."""
        return all(t.rank == 1 for t in self.tokens)


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
    given, *others = request.prompt
    if others:
        message = f"`prompt` must be one prompt here, got {len(request.prompt)}."
        raise InvalidRequest(f"{message} Call `choose` for each of them.", param="prompt")
    ids = tuple(lm.tokenizer.encode(given)) if isinstance(given, str) else given
    ways = [_tokenisations(lm, choice) for choice in request.guided_choice]
    sums = _sequence_logprobs(lm, ids, [way for group, _ in ways for way in group])
    found: list[tuple[str, tuple[int, ...], float, float | None]] = []
    for choice, (group, complete) in zip(request.guided_choice, ways, strict=True):
        logprobs = [next(sums) for _ in group]
        whole = _log_sum(logprobs) if complete else None
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


def score_choices(
    lm: LM, prompts: Any, choices: Sequence[str] | Sequence[Sequence[str]]
) -> list[list[ChoiceScore]]:
    """Score choices after prompts; see `LM.score_choices`."""
    limits = dataclasses.replace(lm.limits, max_sequences=sys.maxsize)
    request = parse({"prompt": prompts}, dialect=Dialect.PYTHON, limits=limits)
    groups = _choices_of_each(choices, len(request.prompt))
    heads = [tuple(lm.tokenizer.encode(p)) if isinstance(p, str) else p for p in request.prompt]
    pairs = [(head, c) for head, group in zip(heads, groups, strict=True) for c in group]
    sequences = [(*head, *lm.tokenizer.encode_continuation(choice)) for head, choice in pairs]
    scored = iter(score(lm, sequences, top=0, add_special_tokens=False) if sequences else [])
    found = (
        ChoiceScore(choice=choice, tokens=next(scored).tokens[len(head) :])
        for head, choice in pairs
    )
    return [[next(found) for _ in group] for group in groups]


def _choices_of_each(choices: Any, count: int) -> list[tuple[str, ...]]:
    """The choices of each of `count` prompts: the same strings for all, or a list for each."""
    way_out = "Give a list of strings for all prompts, or one such list for each prompt."
    if isinstance(choices, str) or not isinstance(choices, Iterable):
        message = f"`choices` {choices!r:.80} is no list."
        raise InvalidRequest(f"{message} {way_out}", param="choices")
    listed = list(choices)
    shared = bool(listed) and all(isinstance(choice, str) for choice in listed)
    groups = [listed] * count if shared else listed
    if len(groups) != count:
        message = f"`choices` has {len(groups)} lists for {count} prompts."
        raise InvalidRequest(f"{message} {way_out}", param="choices")
    return [tuple(_choice(c, way_out) for c in _members(group, way_out)) for group in groups]


def _members(group: Any, way_out: str) -> Iterable[Any]:
    if isinstance(group, str) or not isinstance(group, Iterable):
        message = f"`choices` holds {group!r:.80}, which is no list of strings."
        raise InvalidRequest(f"{message} {way_out}", param="choices")
    return group


def _choice(choice: Any, way_out: str) -> str:
    if not isinstance(choice, str) or not choice:
        message = f"`choices` holds {choice!r:.80}, which is no non-empty string."
        raise InvalidRequest(f"{message} {way_out}", param="choices")
    try:
        choice.encode()
    except UnicodeEncodeError:
        message = f"`choices` holds {choice!r:.80}, which has a lone surrogate and is no text."
        raise InvalidRequest(f"{message} {way_out}", param="choices") from None
    return choice


def _tokenisations(lm: LM, choice: str) -> tuple[list[tuple[int, ...]], bool]:
    """The canonical tokens first, then every other way to spell the choice, and True; where there
    are too many ways, the canonical tokens alone and False."""
    canonical = tuple(lm.tokenizer.encode_continuation(choice))
    text = choice.encode()
    pieces = [_pieces_from(lm, text, start) for start in range(len(text))]
    ways = [0] * len(text) + [1]
    for start in reversed(range(len(text))):
        ways[start] = sum(ways[end] for _, end in pieces[start])
    if ways[0] > TOKENISATIONS:
        return [canonical], False

    def spell(start: int) -> Iterator[tuple[int, ...]]:
        if start == len(text):
            yield ()
        for token, end in pieces[start] if start < len(text) else ():
            if ways[end]:
                yield from ((token, *rest) for rest in spell(end))

    return [canonical, *(way for way in spell(0) if way != canonical)], True


def _pieces_from(lm: LM, text: bytes, start: int) -> list[tuple[int, int]]:
    """The tokens that spell the text from `start` on, each with the place where it ends."""
    longest = max(map(len, lm.pieces))
    return [
        (token, end)
        for end in range(start + 1, min(len(text), start + longest) + 1)
        for token in lm.pieces.get(text[start:end], ())
    ]


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
