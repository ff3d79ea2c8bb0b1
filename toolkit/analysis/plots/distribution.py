"""One position: what the model wanted, and what the sampler could draw."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from toolkit.analysis.plots.style import (
    BLUE,
    FAINT,
    GREY,
    INK,
    ORANGE,
    figure,
    floats,
    known,
    name,
    one,
    tokens_as_ticks,
)


def probabilities(
    frame: pd.DataFrame,
    *,
    position: int | None = None,
    choice: int | None = None,
    request: str | None = None,
    most: int = 20,
) -> Figure:
    """Bars of the likeliest tokens at one position: the model's probability as an outline, the
    probability of being drawn as a fill; a token that could not be drawn says what dropped it.

    `frame`: candidates. `position`: as in the frame; the first that was drawn if None.
    """
    rows = known(one(frame, choice, request), "logprob", "Ask for `logprobs`.")
    drawn = rows.loc[rows["logprob_sampled"].notna()]
    if position is None:
        position = int((rows if drawn.empty else drawn).loc[:, "position"].iloc[0])
    rows = known(
        rows.loc[rows["position"] == position], "logprob", f"`position` {position} is empty."
    )
    rows = rows.sort_values("logprob", ascending=False, kind="stable").head(most)
    made, ((ax,),) = figure(6.0, 1.3 + 0.24 * len(rows))
    _bars(ax, rows)
    tokens_as_ticks(ax, rows, axis="y")
    for text, chosen in zip(ax.get_yticklabels(), rows["chosen"], strict=True):
        text.set(fontsize=8.5, fontweight="bold" if chosen else "normal")
    ax.invert_yaxis()
    ax.grid(visible=False, axis="y")
    ax.grid(visible=True, axis="x", color=FAINT, linewidth=0.6)
    name(ax, x="probability", title=f"Position {position}; in bold the token that came")
    made.legend(loc="outside lower center", ncols=2, fontsize=8, frameon=False)
    return made


def _bars(ax: Axes, rows: pd.DataFrame) -> None:
    y = np.arange(len(rows))
    raw, sampled = np.exp(floats(rows, "logprob")), np.exp(floats(rows, "logprob_sampled"))
    if not np.isnan(sampled).all():
        ax.barh(
            y, np.nan_to_num(sampled), height=0.72, color=ORANGE, alpha=0.55, label="drawn with"
        )
    ax.barh(
        y,
        raw,
        height=0.72,
        facecolor="none",
        edgecolor=BLUE,
        linewidth=1.2,
        label="the model's own",
    )
    right = max(float(np.nanmax(raw)), float(np.nanmax(np.nan_to_num(sampled)))) * 1.08
    ax.set_xlim(0, right * 1.1)
    ax.set_xticks([tick for tick in ax.get_xticks() if 0 <= tick <= 1])
    ax.set_xlim(0, right * 1.1)
    for i, (fate, p, q) in enumerate(zip(rows["dropped_by"], raw, sampled, strict=True)):
        if isinstance(fate, str) and fate != "none":
            end = max(p, np.nan_to_num(q))
            ax.text(
                end + right * 0.012,
                i,
                fate,
                va="center",
                fontsize=7.5,
                color=GREY,
                style="italic",
                parse_math=False,
            )
        elif q == 0:
            ax.text(
                p + right * 0.012,
                i,
                "dropped",
                va="center",
                fontsize=7.5,
                color=INK,
                style="italic",
            )
