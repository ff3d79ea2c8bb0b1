"""From rounds to a table: which figures a scenario shows, and ours over theirs."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

from experiments.benchmarks.rounds import Round, Spread, Value, ratio, spread


@dataclasses.dataclass(frozen=True, kw_only=True)
class Figure:
    """A column of a table: what it is called, where it comes from, how it is written."""

    key: str
    """Its name in the JSON file."""
    heading: str
    value: Value
    digits: int = 1
    unit: str = ""
    scale: float = 1.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Table:
    """The same figures as numbers and as text."""

    summary: dict[str, Any]
    """By case, contestant and figure."""
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]


def tabulate(
    rounds: list[Round],
    figures: Sequence[Figure],
    *,
    ours: str,
    case_heading: str,
    compared: str = "ours / theirs",
) -> Table:
    """A row for each contestant of each case.

    The first figure is the one that is compared, the larger the better: the column after it is that
    of `ours` over the row's own, round by round.
    """
    main, *others = figures
    summary: dict[str, Any] = {}
    rows: list[list[str]] = []
    for case, turns in rounds[0].items():
        summary[case] = {}
        for name in sorted(turns, key=lambda name: name != ours):
            found = {f.key: _known(spread(rounds, case, name, f.value)) for f in figures}
            over = ratio(rounds, case, ours, name, main.value) if ours in turns else None
            summary[case][name] = {**found, "ours_over_theirs": over}
            rows.append(
                [
                    case,
                    name,
                    _text(main, found),
                    over.show(2) if over and name != ours else "",
                    *(_text(figure, found) for figure in others),
                ]
            )
    headings = [case_heading, "engine", main.heading, compared, *(f.heading for f in others)]
    return Table(summary=summary, columns=headings, rows=rows)


def _known(found: Spread) -> Spread | None:
    """None for what the system did not say, which figures give as NaN."""
    return None if math.isnan(found.median) else found


def _text(figure: Figure, found: dict[str, Spread | None]) -> str:
    value = found[figure.key]
    if value is None:
        return "not known"
    return value.show(figure.digits, unit=figure.unit, scale=figure.scale)
