"""Rounds in which every contestant has its turn, and what is read from them.

Memory bandwidth and clock frequency drift within minutes, so figures of different runs are never
compared: a comparison is the ratio of two turns in the same round, and its median over the rounds.
"""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Callable, Iterable, Mapping
from typing import Any

Turn = dict[str, Any]
"""What one contestant measured in one round."""

Round = dict[str, Turn]
"""The turns of a round by contestant."""


def interleave(contestants: Mapping[str, Callable[[], Turn]], rounds: int) -> list[Round]:
    """Run all contestants in each round; another one begins each time."""
    names, made = list(contestants), []
    for number in range(rounds):
        print(f"round {number + 1} of {rounds}", flush=True)
        begin = number % len(names)
        made.append({name: contestants[name]() for name in names[begin:] + names[:begin]})
    return made


@dataclasses.dataclass(frozen=True, kw_only=True)
class Spread:
    """A figure over the rounds."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Iterable[float]) -> Spread:
        """Median, smallest and largest."""
        values = list(values)
        return cls(median=statistics.median(values), low=min(values), high=max(values))

    def show(self, digits: int, *, unit: str = "", scale: float = 1.0) -> str:
        """`median (low-high)`, each times `scale`."""
        median, low, high = (
            f"{scale * value:.{digits}f}{unit}" for value in (self.median, self.low, self.high)
        )
        return f"{median} ({low} to {high})"


def spread(rounds: list[Round], name: str, figure: Callable[[Turn], float]) -> Spread:
    """A contestant's figure over the rounds."""
    return Spread.of(figure(turns[name]) for turns in rounds)


def ratio(rounds: list[Round], ours: str, theirs: str, figure: Callable[[Turn], float]) -> Spread:
    """Our figure over theirs, round by round."""
    return Spread.of(figure(turns[ours]) / figure(turns[theirs]) for turns in rounds)
