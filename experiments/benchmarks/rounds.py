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

Round = dict[str, dict[str, Turn]]
"""The turns of a round: by case (a batch size, a prompt length), then by contestant."""

Value = Callable[[Turn], float]
"""A figure of a turn."""


def interleave(
    cases: Mapping[str, Mapping[str, Callable[[], Turn]]],
    rounds: int,
    drop: Callable[[str, Exception], bool],
) -> list[Round]:
    """Run all contestants of all cases in each round; another one of each case begins each time.

    What a contestant raises is given to `drop` with its name: True takes the contestant out of the
    case, and out of the rounds that were made, so that every round has the same ones.
    """
    playing = {case: dict(contestants) for case, contestants in cases.items()}
    made: list[Round] = []
    for number in range(rounds):
        print(f"round {number + 1} of {rounds}", flush=True)
        made.append({case: {} for case in playing})
        for case, contestants in playing.items():
            for name in _rotated(list(contestants), number):
                try:
                    made[-1][case][name] = contestants[name]()
                except Exception as error:
                    if not drop(name, error):
                        raise
                    del contestants[name]
                    for turns in made:
                        turns[case].pop(name, None)
    return made


def _rotated(names: list[str], by: int) -> list[str]:
    begin = by % max(1, len(names))
    return names[begin:] + names[:begin]


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
        """`median (low to high)`, each times `scale`."""
        median, low, high = (
            f"{scale * value:.{digits}f}{unit}" for value in (self.median, self.low, self.high)
        )
        return f"{median} ({low} to {high})"


def spread(rounds: list[Round], case: str, name: str, value: Value) -> Spread:
    """A contestant's figure over the rounds."""
    return Spread.of(value(turns[case][name]) for turns in rounds)


def ratio(rounds: list[Round], case: str, one: str, other: str, value: Value) -> Spread:
    """The figure of one contestant over that of another, round by round."""
    return Spread.of(value(turns[case][one]) / value(turns[case][other]) for turns in rounds)


def best(rounds: list[Round], case: str, engine: str, value: Value) -> str | None:
    """The way of running an engine whose median is the largest; None where none ran."""
    ways = [name for name in rounds[0].get(case, {}) if name.startswith(engine)]
    return max(ways, key=lambda name: spread(rounds, case, name, value).median, default=None)
