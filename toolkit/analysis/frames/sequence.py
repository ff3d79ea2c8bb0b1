"""What every answer is read into: one `Sequence` a choice, one `Position` a token.

The readers (`record.py`, `foreign.py`) make these from our records and from JSON; the frames are
written from these alone. None means that the answer does not say.
"""

from __future__ import annotations

import builtins
import codecs
import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Candidate:
    """A token that stood or could have stood at a position."""

    id: int | None = None
    token: str | None = None
    bytes: builtins.bytes | None = None
    logprob: float | None = None
    logprob_sampled: float | None = None
    dropped_by: str | None = None
    rank: int | None = None
    """1 for the likeliest by `logprob`."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Position:
    """A token of a text, and what could have stood there."""

    chosen: Candidate
    alternatives: tuple[Candidate, ...] = ()
    """The best, best first; the chosen token may be among them."""
    segment: str | None = None
    text_start: int | None = None
    text_end: int | None = None
    entropy: float | None = None
    entropy_sampled: float | None = None
    support: int | None = None
    kept_mass: float | None = None
    bias: float | None = None
    penalty: float | None = None
    special: bool | None = None

    @property
    def best(self) -> Candidate | None:
        """The model's likeliest token; None if the answer names no likely ones."""
        known = [item for item in self.alternatives if item.logprob is not None]
        if not known:
            return self.chosen if self.chosen.rank == 1 else None
        best = max(known, key=lambda item: item.logprob or 0.0)
        return self.chosen if self.is_chosen(best) else best

    def is_chosen(self, item: Candidate) -> bool:
        """Whether an alternative is the chosen token: by id where both have one, else by bytes or
        text and an equal log-probability."""
        if item.id is not None and self.chosen.id is not None:
            return item.id == self.chosen.id
        mine, other = (
            (self.chosen.bytes, item.bytes)
            if self.chosen.bytes is not None and item.bytes is not None
            else (self.chosen.token, item.token)
        )
        return mine == other and self.chosen.logprob == item.logprob


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Sequence:
    """One choice of an answer, and what is known about the request that it answers."""

    request_id: str | None = None
    prompt_index: int | None = None
    choice_index: int = 0
    positions: tuple[Position, ...] = ()
    parameters: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    facts: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    """Columns of `requests` that are not counted from the positions."""

    @property
    def keys(self) -> dict[str, Any]:
        """The columns by which rows of all frames are joined."""
        return {
            "request_id": self.request_id,
            "prompt_index": self.prompt_index,
            "choice_index": self.choice_index,
        }


def readable(data: bytes) -> str:
    """Bytes as text, with U+FFFD for what is not UTF-8 on its own."""
    return data.decode(errors="replace")


def spans(pieces: Iterable[bytes]) -> list[tuple[int, int]]:
    """First and one-past-last code point that each piece has a byte in, in the decoded whole.

    The four bytes of an emoji as four pieces all have the same span: (0, 1).
    """
    decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
    done, found = 0, []
    for piece in pieces:
        start = done
        done += len(decoder.decode(piece))
        pending = bool(decoder.getstate()[0])
        found.append((start, done + pending if piece else start))
    return found
