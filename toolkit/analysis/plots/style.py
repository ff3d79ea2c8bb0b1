"""How all figures look. Nothing global is changed: every axes is styled by itself."""

from __future__ import annotations

import io
import math
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import font_manager
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from PIL import Image

from toolkit.analysis.visible import label
from toolkit.errors import InvalidRequest

BLUE, ORANGE, GREEN, PURPLE, GREY = "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#8a8a8a"
"""Of the palette of Okabe and Ito, which the colour-blind tell apart."""
CYCLE = (BLUE, ORANGE, GREEN, PURPLE, "#E69F00", "#56B4E9", "#000000")
INK, FAINT = "#222222", "#dddddd"
MONOSPACE = ["DejaVu Sans Mono", "DejaVu Sans"]
"""Come with matplotlib; the second for what the first lacks."""
MORE = "Join it with `toolkit.frames.add_requests`."


DPI, SCREEN = 150, 96
"""Pixels an inch: of the PNG, and of the page that shows it."""


class Picture(Figure):
    """A figure that shows itself in Jupyter; without pyplot matplotlib's own would not."""

    def _repr_png_(self) -> tuple[bytes, dict[str, int]]:
        """The PNG and its size on the page, which is that of print, whatever the resolution.

        With a palette of 256 colours it weighs a third, so that notebooks stay small.
        """
        drawn, file = io.BytesIO(), io.BytesIO()
        self.savefig(drawn, format="png")
        image = Image.open(drawn).convert("RGB")
        image.quantize(256, dither=Image.Dither.NONE).save(file, format="png", optimize=True)
        width, height = (round(inches * SCREEN) for inches in self.get_size_inches())
        return file.getvalue(), {"width": width, "height": height}


def figure(
    width: float = 7.0, height: float = 3.2, *, rows: int = 1, columns: int = 1, **sharing: Any
) -> tuple[Figure, np.ndarray]:
    """A figure in inches and its axes `[rows, columns]`; laid out when it is drawn."""
    made = Picture(figsize=(width, height), dpi=DPI, layout="constrained", facecolor="white")
    axes = made.subplots(rows, columns, squeeze=False, **sharing)
    for ax in axes.flat:
        tidy(ax)
    return made, axes


def grid(
    count: int, columns: int, *, width: float, height: float, **sharing: Any
) -> tuple[Figure, np.ndarray]:
    """A figure of `count` panels of this size in inches, at most so many in a row, filled evenly;
    what is left over in the last row is for the caller to hide."""
    lines = math.ceil(count / columns)
    columns = math.ceil(count / lines)
    size = 1.0 + width * columns, 0.7 + height * lines
    return figure(*size, rows=lines, columns=columns, **sharing)


def named(value: Any) -> str:
    """A value of a parameter in a title: 0.5, 1, or a word as it is."""
    return value if isinstance(value, str) else f"{value:g}"


def tidy(ax: Axes) -> None:
    """Two spines, small ticks, a faint grid behind the data."""
    ax.spines[["top", "right"]].set_visible(False)
    ax.spines[["left", "bottom"]].set_color(GREY)
    ax.tick_params(labelsize=8, colors=INK, length=3)
    ax.grid(visible=True, axis="y", color=FAINT, linewidth=0.6)
    ax.set_axisbelow(True)


def name(ax: Axes, *, x: str = "", y: str = "", title: str = "") -> None:
    """Labels of the axes, and a title that says what is seen. No part of them is read as maths."""
    if x:
        ax.set_xlabel(x, fontsize=9, color=INK, parse_math=False)
    if y:
        ax.set_ylabel(y, fontsize=9, color=INK, parse_math=False)
    if title:
        ax.set_title(title, fontsize=9.5, color=INK, loc="left", parse_math=False)


def legend(ax: Axes, **options: Any) -> None:
    """A legend without a frame."""
    made = ax.legend(fontsize=8, frameon=False, **options)
    for text in made.get_texts():
        text.set_parse_math(False)


def whole_numbers(ax: Axes) -> None:
    """Ticks of the x axis at whole numbers only."""
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))


def printable(text: str) -> str:
    """Text without the characters that the figure's font lacks, which would be empty boxes."""
    fonts = [font_manager.get_font(font_manager.findfont(family)) for family in MONOSPACE]
    return "".join(c if any(f.get_char_index(ord(c)) for f in fonts) else "\u25af" for c in text)


def tokens_as_ticks(ax: Axes, rows: pd.DataFrame, *, axis: str = "x") -> None:
    """The tokens of rows as ticks 0, 1, 2, ... of an axis."""
    names = [shortened(printable(label(row))) for row in rows.astype(object).to_dict("records")]
    made = ax.xaxis if axis == "x" else ax.yaxis
    made.set_ticks(range(len(names)), labels=names)
    for text in made.get_ticklabels():
        text.set(parse_math=False, fontfamily=MONOSPACE, fontsize=7)
        if axis == "x":
            text.set_rotation(90)


def shortened(text: str, most: int = 14) -> str:
    """Text of at most so many characters."""
    return text if len(text) <= most else text[: most - 1] + "…"


def one(frame: pd.DataFrame, choice: int | None, request: str | None = None) -> pd.DataFrame:
    """The rows of one choice, the first if none is named.

    Raises InvalidRequest where there is no such choice.
    """
    if frame.empty:
        raise InvalidRequest("`frame` has no rows. Ask for `logprobs`.", param="frame")
    ids = frame.loc[:, "request_id"].astype(object).where(frame["request_id"].notna(), None)
    rows = frame.loc[[item == (ids.iloc[0] if request is None else request) for item in ids]]
    if rows.empty:
        raise InvalidRequest(f"`request` {request!r} is not in the frame.", param="request")
    wanted = rows["choice_index"].iloc[0] if choice is None else choice
    rows = rows.loc[rows["choice_index"] == wanted]
    if rows.empty:
        raise InvalidRequest(f"`choice` {choice} is not in the frame.", param="choice")
    return rows


def known(frame: pd.DataFrame, column: str, hint: str) -> pd.DataFrame:
    """The rows that have a value in a column. Raises InvalidRequest if none has, with the way
    out."""
    present = frame.loc[:, column].notna() if column in frame.columns else pd.Series(dtype=bool)
    if not bool(present.any()):
        raise InvalidRequest(f"`frame` has no values of `{column}`. {hint}", param="frame")
    return frame.loc[present]


def floats(frame: pd.DataFrame, column: str) -> np.ndarray:
    """A column as float64, NA as NaN."""
    return frame.loc[:, column].to_numpy(dtype="float64", na_value=np.nan)
