"""Words out of tokens, with the correction for leading whitespace.

Tokens carry the space in front of a word, so the sum over a word's tokens pays for the start of
this word instead of its end. The corrected value moves that cost to where it belongs (Pimentel and
Meister 2024, arXiv 2406.14561; Oh and Schuler 2024, arXiv 2406.10851):

    log p(word) = sum of its tokens + log B(after the word) - log B(before the word)

where B is the probability that a new word or the end of the text comes next: the mass of all tokens
that begin with whitespace or end the text. An answer lists the best alternatives only, so B lies
between the mass listed with whitespace and one minus the mass listed without; the middle is used,
and `correction_error` says how far off that can be. With the whole vocabulary it is exact.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator
from typing import Any

import pandas as pd

from toolkit.analysis.frames.columns import typed
from toolkit.analysis.frames.read import sequences
from toolkit.analysis.frames.sequence import Candidate, Position, Sequence

WHITESPACE = b" \t\n\r\x0b\x0c"


def words(
    answers: Any,
    *,
    end_ids: Collection[int] = (),
    prompt_tokens: int | None = None,
) -> pd.DataFrame:
    """One row a word: what stands between whitespace, punctuation included; `logprob` is the sum of
    its tokens, so that all words of a segment sum to its tokens.

    `end_ids` are the ids that end a text (`lm.tokenizer.eos_ids`): they end a word too.
    `logprob_corrected` is NA where nothing is known about what follows (the last word of a cut
    text) or what stood there (no alternatives); `correction_error` is its largest error in nats.
    """
    read = sequences(answers, prompt_tokens=prompt_tokens)
    rows = (row for sequence in read for row in _rows(sequence, frozenset(end_ids)))
    return typed(rows, "words/1")


def _rows(sequence: Sequence, ends: frozenset[int]) -> Iterator[dict[str, Any]]:
    positions = sequence.positions
    for index, (first, last) in enumerate(_groups(positions)):
        part = positions[first : last + 1]
        values = [p.chosen.logprob for p in part]
        total = None if None in values else math.fsum(v for v in values if v is not None)
        corrected, error = _corrected(positions, first, last, total, ends)
        yield {
            **sequence.keys,
            "word_index": index,
            "segment": part[0].segment,
            "word": _spelled(part),
            "first_position": first,
            "last_position": last,
            "logprob": total,
            "logprob_corrected": corrected,
            "correction_error": error,
        }


def _groups(positions: tuple[Position, ...]) -> Iterator[tuple[int, int]]:
    """First and last position of each word. Whitespace belongs to the word that it leads to; a new
    segment and a special token begin a new word."""
    start = 0
    for i in range(1, len(positions) + 1):
        if i == len(positions) or _begins(positions[i - 1], positions[i]):
            yield start, i - 1
            start = i


def _begins(before: Position, here: Position) -> bool:
    if before.segment != here.segment or before.special or here.special:
        return True
    blank = not _bytes(before.chosen).strip(WHITESPACE)
    return not blank and (
        _leads(here.chosen) or _bytes(before.chosen)[-1:].strip(WHITESPACE) == b""
    )


def _corrected(
    positions: tuple[Position, ...],
    first: int,
    last: int,
    total: float | None,
    ends: frozenset[int],
) -> tuple[float | None, float | None]:
    if total is None or last + 1 >= len(positions) or positions[first].special:
        return None, None
    after = _mass(positions[last + 1], ends)
    # A word without leading whitespace paid for no boundary: it starts the text or follows one.
    before = _mass(positions[first], ends) if _leads(positions[first].chosen) else (0.0, 0.0)
    if after is None or before is None:
        return None, None
    return total + after[0] - before[0], after[1] + before[1]


def _mass(position: Position, ends: frozenset[int]) -> tuple[float, float] | None:
    """Log of the probability that a word ends here, and its largest error; None if unknown."""
    listed = [item for item in position.alternatives if item.logprob is not None]
    if not listed:
        return None
    if not any(position.is_chosen(item) for item in listed):
        listed.append(position.chosen)
    inside = outside = 0.0
    for item in listed:
        mass = math.exp(item.logprob or 0.0) if item.logprob is not None else 0.0
        ending = item.id in ends or (position.special and position.is_chosen(item))
        if _leads(item) or ending:
            inside += mass
        else:
            outside += mass
    high = max(inside, 1 - outside)
    if high <= 0 or inside <= 0:
        return None
    middle = (inside + high) / 2
    return math.log(middle), math.log(middle / inside)


def _leads(item: Candidate) -> bool:
    return _bytes(item)[:1] in (b" ", b"\t", b"\n", b"\r", b"\x0b", b"\x0c")


def _bytes(item: Candidate) -> bytes:
    return item.bytes if item.bytes is not None else (item.token or "").encode(errors="replace")


def _spelled(part: tuple[Position, ...]) -> str:
    return b"".join(_bytes(p.chosen) for p in part).decode(errors="replace").strip()
