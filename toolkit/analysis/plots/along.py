"""What happens along a text: a line a quantity, a position a token."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from toolkit.analysis.frames.metrics import BITS
from toolkit.analysis.plots.style import (
    BLUE,
    GREY,
    INK,
    ORANGE,
    figure,
    floats,
    known,
    legend,
    name,
    one,
    tokens_as_ticks,
    whole_numbers,
)

READABLE = 64
"""More tokens than this are numbered instead of written below the axis."""
DETAILS = "Complete with `details=True`."


def surprisal(
    frame: pd.DataFrame, *, choice: int | None = None, request: str | None = None
) -> Figure:
    """Surprisal of each token and entropy of its distribution, in bits, along one text.

    Where both agree the token was as surprising as the model expected. `frame`: tokens.
    """
    rows = one(frame, choice, request)
    known(rows, "logprob", "Ask for `logprobs`.")
    made, ((ax,),) = figure(_width(rows), 3.2)
    x = np.arange(len(rows))
    ax.bar(x, -floats(rows, "logprob") * BITS, width=0.8, color=BLUE, alpha=0.75, label="surprisal")
    if rows.loc[:, "entropy"].notna().any():
        ax.plot(
            x,
            floats(rows, "entropy") * BITS,
            color=ORANGE,
            linewidth=1.4,
            marker="o",
            markersize=2.5,
            label="entropy",
        )
    _positions(ax, rows)
    name(ax, y="bits", title="Surprisal and entropy along the text")
    legend(ax, loc="upper right", ncols=2)
    ax.set_ylim(0, ax.get_ylim()[1] * 1.12)
    return made


def nucleus(
    frame: pd.DataFrame, *, choice: int | None = None, request: str | None = None
) -> Figure:
    """How many tokens could be drawn at each step, and how much of the model's mass they held.

    `frame`: tokens of a completion with details.
    """
    rows = known(one(frame, choice, request), "support", DETAILS)
    made, axes = figure(_width(rows), 4.2, rows=2, sharex=True, height_ratios=[3, 2])
    upper, lower = axes[:, 0]
    x = np.arange(len(rows))
    upper.bar(x, floats(rows, "support"), width=0.8, color=BLUE, alpha=0.75)
    upper.set_yscale("log")
    upper.set_ylim(0.8, None)
    upper.yaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    name(upper, y="tokens left", title="Tokens that could be drawn, and their probability mass")
    lower.plot(
        x, floats(rows, "kept_mass"), color=ORANGE, linewidth=1.4, marker="o", markersize=2.5
    )
    lower.set_ylim(0, 1.05)
    name(lower, y="mass kept")
    _positions(lower, rows)
    return made


def _width(rows: pd.DataFrame) -> float:
    return float(np.clip(1.2 + 0.15 * len(rows), 5.0, 11.0))


def _positions(ax: Axes, rows: pd.DataFrame) -> None:
    """Tokens or their numbers below the axis, and a line where the completion begins."""
    ax.set_xlim(-0.8, len(rows) - 0.2)
    if len(rows) <= READABLE:
        tokens_as_ticks(ax, rows)
    else:
        whole_numbers(ax)
        name(ax, x="position")
    prompt = list(rows["segment"]).count("prompt")
    if 0 < prompt < len(rows):
        ax.axvline(prompt - 0.5, color=INK, linewidth=0.9, linestyle="--")
        ax.annotate(
            "completion →",
            (prompt - 0.5, 1),
            xycoords=("data", "axes fraction"),
            xytext=(3, -2),
            textcoords="offset points",
            fontsize=7.5,
            color=GREY,
            va="top",
        )
