"""Bars with their spread, one picture a scenario."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from experiments.benchmarks.rounds import Spread

OURS, THEIRS = "#1f77b4", "#b0b0b0"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Picture:
    """Groups of bars: for each case, a figure of each contestant."""

    axis: str
    """What the figure is, with its unit."""
    bars: Mapping[str, Mapping[str, Spread]]
    """By case and contestant."""
    ours: str
    """Beginning of the names of bars that stand out."""
    line: float | None = None
    """A value worth a vertical line: equal speed, a limit."""


def of_summary(
    summary: Mapping[str, Any], key: str, *, axis: str, ours: str, scale: float = 1.0
) -> Picture:
    """The picture of one figure of a table's summary."""
    bars = {
        case: {name: scaled(found[key], scale) for name, found in names.items()}
        for case, names in summary.items()
    }
    return Picture(axis=axis, bars=bars, ours=ours)


def scaled(spread: Spread, scale: float) -> Spread:
    """Each number times `scale`."""
    return Spread(median=scale * spread.median, low=scale * spread.low, high=scale * spread.high)


def draw(picture: Mapping[str, Any], title: str, path: Path) -> None:
    """Write a picture in its JSON form as SVG; the same picture is the same file."""
    # Not at the top: a run without pictures needs no matplotlib.
    import matplotlib
    from matplotlib.figure import Figure

    bars = [
        (case, name, spread)
        for case, names in picture["bars"].items()
        for name, spread in names.items()
    ]
    gaps = _places(bars)
    figure = Figure(figsize=(7.5, 0.7 + 0.24 * (gaps[-1] + 1)), layout="constrained")
    axes = figure.add_subplot()
    medians = [spread["median"] for _, _, spread in bars]
    axes.barh(
        gaps,
        medians,
        height=0.8,
        color=[OURS if name.startswith(picture["ours"]) else THEIRS for _, name, _ in bars],
        xerr=[
            [m - spread["low"] for m, (_, _, spread) in zip(medians, bars, strict=True)],
            [spread["high"] - m for m, (_, _, spread) in zip(medians, bars, strict=True)],
        ],
        error_kw={"linewidth": 0.8},
    )
    single = len(picture["bars"]) == 1
    axes.set_yticks(gaps, [name if single else f"{case}: {name}" for case, name, _ in bars])
    axes.invert_yaxis()
    axes.set_xlabel(picture["axis"])
    axes.set_title(title, fontsize="medium", loc="left")
    axes.spines[["top", "right"]].set_visible(False)
    if picture["line"] is not None:
        axes.axvline(picture["line"], color="black", linewidth=0.8, linestyle=":")
    path.parent.mkdir(parents=True, exist_ok=True)
    with matplotlib.rc_context({"svg.hashsalt": "toolkit", "svg.fonttype": "none"}):
        figure.savefig(path, format="svg", metadata={"Date": None, "Creator": None})


def _places(bars: list[tuple[str, str, Any]]) -> list[float]:
    """A place for each bar, with a gap between cases."""
    places, at, last = [], 0.0, bars[0][0]
    for case, _, _ in bars:
        at += 0.5 if case != last else 0.0
        places.append(at)
        at, last = at + 1.0, case
    return places
