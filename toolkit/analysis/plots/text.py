"""The heat map as a figure, for papers: PNG, SVG or PDF by the name it is saved under."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from toolkit.analysis.plots.style import DPI, GREY, INK, MONOSPACE, Picture, one, printable
from toolkit.analysis.scale import HUE, OPACITY, Scale, scale_of, value_of
from toolkit.analysis.visible import label, visible, whole
from toolkit.errors import InvalidRequest

CELL, LINE = 0.0825, 0.25
"""Width of a character and height of a line, in inches, at 10 points."""
Placed = tuple[int, int, str, Mapping[str, Any]]


def heatmap(
    frame: pd.DataFrame,
    *,
    color: str = "probability",
    choice: int | None = None,
    request: str | None = None,
    columns: int = 80,
) -> Figure:
    """A text whose tokens are coloured and underlined by "probability", "surprisal", "rank" or
    "entropy", `columns` characters a line. `frame`: tokens. Characters that the font lacks are
    boxes."""
    if columns < 20:
        raise InvalidRequest(f"`columns` must be at least 20, got {columns}.", param="columns")
    scale = scale_of(color)
    rows = one(frame, choice, request).astype(object).to_dict("records")
    cells = list(_layout(rows, columns))
    lines = cells[-1][0] + 3
    size = columns * CELL + 0.3, lines * LINE + 0.1
    made = Picture(figsize=size, dpi=DPI, facecolor="white")
    ax = made.add_axes((0, 0, 1, 1))
    ax.set(xlim=(-1.8, columns + 1.8), ylim=(lines - 0.2, -0.4))
    ax.set_axis_off()
    _legend(ax, scale)
    for line, column, text, row in cells:
        _cell(
            ax,
            line + 2,
            column,
            text,
            value_of(scale, row),
            scale,
            muted=row["segment"] == "prompt",
        )
    return made


def _layout(rows: list[dict[str, Any]], columns: int) -> Iterator[Placed]:
    """Line, column and text of each piece: a token, or its part before a line end or the margin."""
    line = column = 0
    for row, text in whole(rows):
        shown = label(row) if row.get("special") is True else text or "◦"
        for i, part in enumerate(shown.split("\n")):
            if i:
                yield line, min(column, columns), "⏎", row
                line, column = line + 1, 0
            piece = printable(visible(part))
            if column and column + len(piece) > columns:
                line, column = line + 1, 0
            while piece:
                here, piece = piece[: columns - column], piece[columns - column :]
                yield line, column, here, row
                column += len(here)
                if piece:
                    line, column = line + 1, 0


def _cell(
    ax: Axes,
    line: int,
    column: float,
    text: str,
    value: float | None,
    scale: Scale,
    *,
    muted: bool = False,
) -> None:
    """A piece of text on its colour. Level 1 is as dark as text can bear; NA is dotted below."""
    hue = tuple(part / 255 for part in HUE)
    level = 0.0 if value is None else scale.level(value)
    box = (column, line - 0.5), len(text), 0.82
    ax.add_patch(Rectangle(*box, facecolor=(*hue, OPACITY * level), edgecolor="none"))
    under = (
        {"color": hue, "linewidth": 2.2 * level}
        if value is not None
        else {"color": GREY, "linewidth": 0.8, "linestyle": ":"}
    )
    ends = [column + 0.08, column + len(text) - 0.08]
    ax.plot(ends, [line + 0.33] * 2, solid_capstyle="butt", **under)
    for i, character in enumerate(text):  # one by one, so that a column is a column in any font
        faint = character in "·⏎⇥␍◦"
        ink = GREY if faint else INK
        ax.text(
            column + i + 0.5,
            line,
            character,
            fontsize=10,
            fontfamily=MONOSPACE,
            color=ink,
            ha="center",
            va="center_baseline",
            style="italic" if muted else "normal",
            parse_math=False,
        )


def _legend(ax: Axes, scale: Scale) -> None:
    ax.text(0, 0, scale.unit, fontsize=8.5, color=GREY, va="center_baseline")
    column = len(scale.unit) * 0.85 + 2
    for step in scale.steps:
        text = f" {scale.number(step)} "
        _cell(ax, 0, column, text, step, scale)
        column += len(text) + 1
