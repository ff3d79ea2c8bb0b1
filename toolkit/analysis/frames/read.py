"""Whatever a completion is -> sequences: our `Completion`, a score, a server's JSON, or several."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from toolkit.analysis.frames.foreign import from_json
from toolkit.analysis.frames.record import from_record, from_score
from toolkit.analysis.frames.sequence import Candidate, Sequence
from toolkit.errors import InvalidRequest, RunError

DISTRIBUTIONS = ("raw", "sampled")


def sequences(
    answers: Any,
    *,
    prompt_tokens: int | None = None,
    distribution: str = "raw",
    rejected: bool = False,
) -> list[Sequence]:
    """The choices of one answer or of several, in order.

    `prompt_tokens` and `distribution` say what JSON leaves open; see `tokens`. An answer with a
    record needs neither. Raises RunError for what is no answer.
    """
    if distribution not in DISTRIBUTIONS:
        raise InvalidRequest(
            f'`distribution` must be "raw" or "sampled", got {distribution!r}.',
            param="distribution",
        )
    found: list[Sequence] = []
    for index, answer in enumerate(_each(answers)):
        if (record := _record(answer)) is not None:
            found += from_record(record, rejected=rejected)
        elif isinstance(answer, Mapping):
            read = from_json(answer, prompt_tokens=prompt_tokens)
            found += map(_as_sampled, read) if distribution == "sampled" else read
        elif hasattr(answer, "tokens"):
            found.append(from_score(answer, index))
        else:
            raise RunError(
                f"A {type(answer).__name__} is no answer. Pass a completion, its JSON as a dict, "
                "what `score` returned, or a list of those."
            )
    return found


def _each(answers: Any) -> Iterator[Any]:
    several = isinstance(answers, Iterable) and not isinstance(answers, Mapping | str | bytes)
    yield from answers if several else (answers,)


def _record(answer: Any) -> Any:
    """The record of a `Completion`, or the answer itself if it is one."""
    if hasattr(answer, "choices") and hasattr(answer, "request"):
        return answer
    return getattr(answer, "record", None)


def _as_sampled(sequence: Sequence) -> Sequence:
    """The same with every log-probability as that of the distribution drawn from."""
    positions = tuple(
        p
        if p.segment == "prompt"
        else dataclasses.replace(
            p,
            chosen=_moved(p.chosen),
            alternatives=tuple(_moved(item) for item in p.alternatives),
        )
        for p in sequence.positions
    )
    return dataclasses.replace(sequence, positions=positions)


def _moved(item: Candidate) -> Candidate:
    return dataclasses.replace(item, logprob=None, logprob_sampled=item.logprob, rank=None)
