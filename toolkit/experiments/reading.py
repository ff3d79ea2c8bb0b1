"""Answers of any target as choices with tokens: what probes and comparisons read."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from toolkit.analysis.frames.read import sequences
from toolkit.analysis.frames.sequence import Candidate, Position, Sequence
from toolkit.experiments.target import Answer

LOWEST = -9000.0
"""Log-probabilities below this are a server's way to write minus infinity."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Token:
    """A token of an answer. `data` is its bytes where known, else its text as UTF-8."""

    data: bytes
    id: int | None
    logprob: float | None
    top: Mapping[bytes, float]
    """The likeliest tokens and this one, by `data`."""
    prompt: bool | None
    """Whether it belongs to the echoed prompt; None where the answer does not tell."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Choice:
    """One choice of an answer."""

    text: str
    tokens: tuple[Token, ...]
    finish_reason: str | None

    @property
    def completion(self) -> list[Token]:
        """Tokens that were generated, as far as the answer tells."""
        return [token for token in self.tokens if not token.prompt]


def choices(answer: Answer, *, prompt_tokens: int | None = None) -> list[Choice]:
    """The choices of an answer in order of their index.

    `prompt_tokens`: how many entries of each choice are its prompt, where only the asker knows.
    """
    told: Any = answer.body if answer.record is None else answer.record
    read = sorted(sequences(told, prompt_tokens=prompt_tokens), key=lambda s: s.choice_index)
    return [_choice(sequence) for sequence in read]


def _choice(sequence: Sequence) -> Choice:
    return Choice(
        text=str(sequence.facts.get("text") or ""),
        tokens=tuple(_token(position) for position in sequence.positions),
        finish_reason=sequence.facts.get("finish_reason"),
    )


def _token(position: Position) -> Token:
    chosen = position.chosen
    top = {
        data_of(item): item.logprob for item in position.alternatives if item.logprob is not None
    }
    if chosen.logprob is not None:
        top[data_of(chosen)] = chosen.logprob
    return Token(
        data=data_of(chosen),
        id=chosen.id,
        logprob=chosen.logprob,
        top=top,
        prompt=None if position.segment is None else position.segment == "prompt",
    )


def data_of(item: Candidate) -> bytes:
    """The bytes of a token, or its text as UTF-8."""
    return item.bytes if item.bytes is not None else (item.token or "").encode()


def usage(answer: Answer, name: str) -> int | None:
    """`prompt_tokens` or `completion_tokens` of an answer; None where it does not tell."""
    if answer.record is not None:
        return getattr(answer.record.usage, name)
    value = (answer.body.get("usage") or {}).get(name)
    return value if isinstance(value, int) else None


def arrays(answer: Answer, index: int = 0) -> Mapping[str, Any]:
    """The legacy arrays of a choice as they were sent; empty where there are none."""
    listed = answer.body.get("choices") or [{}]
    return (listed[index] if index < len(listed) else {}).get("logprobs") or {}
