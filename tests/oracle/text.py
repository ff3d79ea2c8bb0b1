"""Bytes to text, stop strings and offsets by their naive definitions, for tests only."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

REPLACEMENT = "\ufffd"


@dataclasses.dataclass(frozen=True)
class Character:
    """One code point and the bytes `start .. end - 1` that it came from."""

    text: str
    start: int
    end: int


@dataclasses.dataclass(frozen=True)
class Cut:
    """Where a stop string ends a text: the winner, and its first and last code point + 1."""

    stop: str
    start: int
    end: int


def characters(data: bytes) -> tuple[list[Character], int]:
    """The complete characters of UTF-8 bytes, and where the unfinished tail starts.

    Without a tail that is `len(data)`. An ill-formed part gives one U+FFFD for each maximal subpart
    (Unicode 15, section 3.9, table 3-7).
    """
    done: list[Character] = []
    at = 0
    while at < len(data):
        ranges = _continuations(data[at])
        end = at + 1
        while (
            ranges
            and end < len(data)
            and end - at <= len(ranges)
            and data[end] in ranges[end - at - 1]
        ):
            end += 1
        whole = ranges is not None and end - at == len(ranges) + 1
        if ranges and not whole and end == len(data):
            return done, at
        done.append(Character(data[at:end].decode() if whole else REPLACEMENT, at, end))
        at = end
    return done, at


def _continuations(lead: int) -> list[range] | None:
    """The ranges of the bytes that must follow a first byte; None if it cannot be first."""
    any_tail = range(0x80, 0xC0)
    if lead < 0x80:
        return []
    if 0xC2 <= lead <= 0xDF:
        return [any_tail]
    if 0xE0 <= lead <= 0xEF:
        second = {0xE0: range(0xA0, 0xC0), 0xED: range(0x80, 0xA0)}.get(lead, any_tail)
        return [second, any_tail]
    if 0xF0 <= lead <= 0xF4:
        second = {0xF0: range(0x90, 0xC0), 0xF4: range(0x80, 0x90)}.get(lead, any_tail)
        return [second, any_tail, any_tail]
    return None


def partial_text(data: bytes) -> str:
    """The text of the complete characters: what may be sent and searched before the end."""
    return "".join(character.text for character in characters(data)[0])


def final_text(data: bytes) -> str:
    """The text at the end: an unfinished tail becomes one U+FFFD."""
    return partial_text(data) + (REPLACEMENT if characters(data)[1] < len(data) else "")


def dangling(data: bytes) -> bytes:
    """The unfinished tail of a prompt's bytes, with which generated text begins."""
    return data[characters(data)[1] :]


def find_stop(text: str, stops: Sequence[str]) -> Cut | None:
    """The stop that ends first as text arrives by code points; list order among equals."""
    for end in range(1, len(text) + 1):
        for stop in stops:
            if text[:end].endswith(stop):
                return Cut(stop, end - len(stop), end)
    return None


def held_back(text: str, stops: Sequence[str]) -> str:
    """The longest suffix that is a proper prefix of some stop, which a stream must not send yet."""
    for start in range(len(text)):
        if any(len(text) - start < len(stop) and stop.startswith(text[start:]) for stop in stops):
            return text[start:]
    return ""


def offsets(pieces: Sequence[bytes], *, before: bytes = b"") -> list[int]:
    """For each token's bytes, the code-point index of the character that holds its first byte.

    `before` are unfinished prompt bytes. A token without bytes gets the index of the first
    character that is not complete yet.
    """
    data = before + b"".join(pieces)
    found, at = [], len(before)
    for piece in pieces:
        ends = [
            character.end for character in (_closed(data) if piece else characters(data[:at])[0])
        ]
        found.append(sum(end <= at for end in ends))
        at += len(piece)
    return found


def contributing(pieces: Sequence[bytes], length: int, *, before: bytes = b"") -> list[int]:
    """Which tokens give at least one byte to the first `length` code points of the text."""
    kept = _closed(before + b"".join(pieces))[:length]
    found, at = [], len(before)
    for number, piece in enumerate(pieces):
        if any(at < character.end and character.start < at + len(piece) for character in kept):
            found.append(number)
        at += len(piece)
    return found


def _closed(data: bytes) -> list[Character]:
    done, tail = characters(data)
    return done + ([Character(REPLACEMENT, tail, len(data))] if tail < len(data) else [])
