"""Stop strings in a text that arrives in pieces."""

from __future__ import annotations

from collections.abc import Sequence

from toolkit.errors import InvalidRequest


class StopSearch:
    """Find the stop string that ends first; among those that end together, the first in the list.

    The text is read one character at a time, so the size of the pieces cannot change the answer.
    `include` keeps the stop string in the text.

    Raises `InvalidRequest` for an empty stop string: it would match everywhere. Time is linear in
    the text for each stop string, and independent of how long the stop strings are.
    """

    def __init__(self, stops: Sequence[str] = (), *, include: bool = False):
        if "" in stops:
            raise InvalidRequest(
                "`stop` must not contain '': it matches everywhere. Leave it out.", param="stop"
            )
        self.stops = tuple(stops)
        self.stop: str | None = None
        """The stop string that was found."""
        self.start: int | None = None
        """Code-point index of its first character, counted from the first character ever fed."""
        self._include = include
        self._patterns = [_Pattern(stop) for stop in self.stops]
        self._first = frozenset(stop[0] for stop in self.stops)
        self._read = 0  # characters looked at
        self._overlap = 0  # how many of the last of them may begin a stop string
        self._held = ""  # those characters

    def feed(self, text: str) -> str:
        """The characters that are certain to be part of the text, now that `text` has followed.

        Held back is the longest end that begins a stop string. After a match nothing more comes
        out.
        """
        if self.stop is not None:
            return ""
        before = self._read - len(self._held)
        for char in text:
            self._read += 1
            if self._overlap == 0 and char not in self._first:
                continue
            if self._advance(char):
                break
        self._held += text
        count = self._certain() - before
        free, self._held = self._held[:count], self._held[count:]
        return free

    def finish(self) -> str:
        """The characters held back, when no more text comes. Nothing after a match."""
        free, self._held, self._overlap = ("" if self.stop else self._held), "", 0
        return free

    def _advance(self, char: str) -> bool:
        """Read one character; True when a stop string ends with it."""
        found = [pattern.stop for pattern in self._patterns if pattern.advance(char)]
        self._overlap = max(pattern.matched for pattern in self._patterns)
        if found:
            self.stop, self.start = found[0], self._read - len(found[0])
        return bool(found)

    def _certain(self) -> int:
        """How many characters, from the first ever fed, are certain to be part of the text."""
        if self._include:
            return self._read
        return self._read - self._overlap if self.start is None else self.start


class _Pattern:
    """Knuth-Morris-Pratt matching of one stop string, one character at a time.

    The table of borders grows only as far as the text has followed the string: a megabyte of stop
    string costs nothing until the text begins to repeat it.
    """

    def __init__(self, stop: str):
        self.stop = stop
        self.matched = 0
        self._borders = [
            0
        ]  # [k-1] = length of the longest proper prefix of stop[:k] that also ends it

    def advance(self, char: str) -> bool:
        """Read one character; True when the whole string has just been read. Not to be called after
        that."""
        while self.matched and self.stop[self.matched] != char:
            self.matched = self._borders[self.matched - 1]
        if self.stop[self.matched] == char:
            self.matched += 1
            if self.matched > len(self._borders):
                self._borders.append(self._next_border())
        return self.matched == len(self.stop)

    def _next_border(self) -> int:
        char, border = self.stop[len(self._borders)], self._borders[-1]
        while border and self.stop[border] != char:
            border = self._borders[border - 1]
        return border + (self.stop[border] == char)
