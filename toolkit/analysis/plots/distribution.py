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
    MORE,
    ORANGE,
    figure,
    floats,
    grid,
    known,
    name,
    named,
    one,
    tokens_as_ticks,
)
from toolkit.errors import InvalidRequest

LOGPROBS = "Ask for `logprobs`."


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
    rows = known(one(frame, choice, request), "logprob", LOGPROBS)
    rows, position = _at(rows, position, most)
    made, ((ax,),) = figure(6.0, 1.3 + 0.24 * len(rows))
    _bars(ax, rows, right=_right(rows))
    _tokens(ax, rows)
    for text, chosen in zip(ax.get_yticklabels(), rows["chosen"], strict=True):
        text.set(fontsize=8.5, fontweight="bold" if chosen else "normal")
    name(ax, x="probability", title=f"Position {position}; in bold the token that came")
    made.legend(loc="outside lower center", ncols=2, fontsize=8, frameon=False)
    return made


def settings(
    frame: pd.DataFrame,
    *,
    by: str = "param.temperature",
    position: int | None = None,
    most: int = 10,
    columns: int = 3,
) -> Figure:
    """`probabilities` of one position under several values of a parameter, a panel each.

    The model's own probabilities are the same in all panels; what is drawn with is not. `frame`:
    candidates of answers to one prompt, with the column `by`, which `frames.add_requests` adds.

    Raises InvalidRequest where the panels would not have the same tokens.
    """
    rows = known(known(frame, by, MORE), "logprob", LOGPROBS)
    parts = {
        value: _at(one(rows.loc[rows[by] == value], None), position, most)[0]
        for value in sorted(rows.loc[:, by].unique())
    }
    tokens = {tuple(part["token"]) for part in parts.values()}
    if len(tokens) > 1:
        raise InvalidRequest(
            f"`frame` has other tokens at this position for other values of {by}. Complete one "
            "prompt and look at its first position.",
            param="frame",
        )
    height = 0.55 + 0.17 * len(next(iter(tokens)))
    made, axes = grid(len(parts), columns, width=2.1, height=height, sharex=True, sharey=True)
    right = max(map(_right, parts.values()))
    for ax, (value, part) in zip(axes.flat, parts.items(), strict=False):
        _bars(ax, part, right=right)
        name(ax, title=f"{by.removeprefix('param.')} {named(value)}")
    for ax in axes.flat[len(parts) :]:
        ax.set_visible(False)
    _tokens(axes.flat[0], next(iter(parts.values())))
    for i, ax in enumerate(axes.flat):
        below = i + axes.shape[1] >= len(parts)
        ax.tick_params(labelleft=i % axes.shape[1] == 0, labelbottom=below)
        name(ax, x="probability" if below else "")
    handles, labels = axes.flat[0].get_legend_handles_labels()
    made.legend(handles, labels, loc="outside lower center", ncols=2, fontsize=8, frameon=False)
    return made


def _at(rows: pd.DataFrame, position: int | None, most: int) -> tuple[pd.DataFrame, int]:
    """The likeliest tokens of a position, the first that was drawn if none is named; and which."""
    if position is None:
        drawn = rows.loc[rows["logprob_sampled"].notna()]
        position = int((rows if drawn.empty else drawn).loc[:, "position"].iloc[0])
    here = known(
        rows.loc[rows["position"] == position], "logprob", f"`position` {position} is empty."
    )
    return here.sort_values("logprob", ascending=False, kind="stable").head(most), position


def _tokens(ax: Axes, rows: pd.DataFrame) -> None:
    """The tokens up the side, best on top, and a grid for their bars."""
    tokens_as_ticks(ax, rows, axis="y")
    ax.set_ylim(len(rows) - 0.4, -0.6)


def _right(rows: pd.DataFrame) -> float:
    """The longest bar and some room for what stands behind it."""
    columns = [np.exp(floats(rows, name)) for name in ("logprob", "logprob_sampled")]
    return float(np.nanmax(np.nan_to_num(columns))) * 1.08


def _bars(ax: Axes, rows: pd.DataFrame, *, right: float) -> None:
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
    ax.grid(visible=False, axis="y")
    ax.grid(visible=True, axis="x", color=FAINT, linewidth=0.6)
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
