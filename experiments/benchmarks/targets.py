"""What the toolkit should reach, and whether it did."""

from __future__ import annotations

import dataclasses

from experiments.benchmarks.rounds import Spread


@dataclasses.dataclass(frozen=True, kw_only=True)
class Target:
    """A figure with the least that is accepted and what is aimed at."""

    what: str
    least: float
    aim: float
    measured: Spread
    unit: str = "x"
    """`x`, ` %`, ` s` or nothing; written right after the number."""
    digits: int = 2
    smaller: bool = False
    """Whether smaller is better."""
    limit: str = ""
    """What holds the figure back, shown where the least was missed."""

    @property
    def verdict(self) -> str:
        """By the median: `aim`, `least` or `missed`."""
        sign = -1 if self.smaller else 1
        if sign * self.measured.median >= sign * self.aim:
            return "aim"
        return "least" if sign * self.measured.median >= sign * self.least else "missed"

    def facts(self) -> dict[str, object]:
        """For the JSON file."""
        return {**dataclasses.asdict(self), "verdict": self.verdict}
