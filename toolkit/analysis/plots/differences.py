"""Two targets that scored the same tokens: how far apart, where, and whether samples tell them
apart. From the frames of a comparison."""

from __future__ import annotations

from typing import Any

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
    legend,
    name,
    printable,
    whole_numbers,
)
from toolkit.errors import InvalidRequest

FLOOR = 1e-7
"""Differences below this are drawn as this; float32 sums are not more exact."""
LARGE = 1e-2
"""The colours reach at least to here, in nats: sums in another order do not make a text look
wrong, and two texts that agree look alike."""


def scores(frame: pd.DataFrame, *, names: tuple[str, str] = ("A", "B")) -> Figure:
    """Both log-probabilities of each token against each other, and B minus A by position.

    On the line both agree. What one of them rules out has no place here. `frame`: `tokens` of a
    comparison. Raises InvalidRequest for an empty one.
    """
    rows = _scored(frame)
    rows = rows.loc[np.isfinite(floats(rows, "logprob_a") + floats(rows, "logprob_b"))]
    made, ((left, right),) = figure(8.4, 3.4, columns=2)
    a, b = floats(rows, "logprob_a"), floats(rows, "logprob_b")
    low = float(min(a.min(initial=-1.0), b.min(initial=-1.0)))
    left.plot([low, 0], [low, 0], color=GREY, linewidth=1, zorder=1)
    left.scatter(a, b, s=9, alpha=0.5, color=BLUE, linewidths=0, zorder=2)
    left.set_aspect("equal", adjustable="box")
    name(left, x=f"{_short(names[0])}, nats", y=f"{_short(names[1])}, nats", title="Logprobs")
    right.axhline(0, color=GREY, linewidth=0.8)
    right.scatter(floats(rows, "position"), b - a, s=9, alpha=0.5, color=ORANGE, linewidths=0)
    whole_numbers(right)
    gaps = np.abs(b - a)
    title = f": median {np.median(gaps):.2g}, largest {gaps.max():.2g}" if len(gaps) else ""
    name(
        right, x="position of the token", y="second minus first, nats", title=f"Differences{title}"
    )
    return made


def by_position(frame: pd.DataFrame) -> Figure:
    """How far apart both are at each token of each text, as colours: a row a text.

    `frame`: `tokens` of a comparison. Raises InvalidRequest for an empty one.
    """
    rows = _scored(frame)
    prompts = rows["prompt_index"].to_numpy(dtype=int)
    places = rows["position"].to_numpy(dtype=int)
    grid = np.full((prompts.max() + 1, places.max() + 1), np.nan)
    gaps = np.abs(floats(rows, "difference"))
    grid[prompts, places] = _level(gaps)
    made, ((ax,),) = figure(8.4, 1.2 + 0.22 * len(grid))
    ax.grid(visible=False)
    ends = _ends(gaps)
    image = ax.imshow(
        grid, aspect="auto", cmap="cividis", interpolation="nearest", vmin=ends[0], vmax=ends[1]
    )
    bar = made.colorbar(image, ax=ax, pad=0.01)
    bar.set_label("log10 of |Δ| in nats", fontsize=8, color=INK)
    bar.ax.tick_params(labelsize=7)
    ax.set_yticks(range(len(grid)))
    whole_numbers(ax)
    name(ax, x="position of the token", y="text", title="Where the two differ")
    return made


def text(frame: pd.DataFrame, *, prompt: int = 0, columns: int = 10) -> Figure:
    """One scored text, token by token, coloured by how far apart both are.

    `prompt`: which one, by `prompt_index`. `frame`: `tokens` of a comparison.
    """
    rows = _scored(frame)
    rows = rows.loc[rows["prompt_index"] == prompt]
    if rows.empty:
        raise InvalidRequest(f"`prompt` {prompt} is not in the frame.", param="prompt")
    gaps = np.abs(floats(rows, "difference"))
    count = -(-len(rows) // columns)
    grid = np.full(count * columns, np.nan)
    grid[: len(rows)] = _level(gaps)
    made, ((ax,),) = figure(8.4, 0.7 + 0.42 * count)
    ax.set_axis_off()
    low, high = _ends(gaps)
    cells = grid.reshape(count, columns)
    image = ax.imshow(cells, aspect="auto", cmap="Oranges", alpha=0.75, vmin=low, vmax=high)
    bar = made.colorbar(image, ax=ax, pad=0.01)
    bar.set_label("log10 of |Δ|", fontsize=8, color=INK)
    bar.ax.tick_params(labelsize=7)
    for i, (token, gap) in enumerate(zip(rows["token"], gaps, strict=True)):
        _cell(ax, i % columns, i // columns, token, gap)
    name(ax, title=f"|Δ| over text {prompt}, in nats")
    return made


def _cell(ax: Axes, x: int, y: int, token: str, gap: float) -> None:
    shown = printable(token.replace(" ", "·").replace("\n", "⏎").replace("\t", "⇥"))
    style: dict[str, Any] = {"ha": "center", "color": INK, "parse_math": False}
    ax.text(x, y - 0.08, shown[:11], fontsize=7.5, va="center", **style)
    ax.text(x, y + 0.3, f"{gap:.1g}", fontsize=5.5, va="center", alpha=0.7, **style)


def tests(frame: pd.DataFrame, *, alpha: float = 0.001) -> Figure:
    """Corrected p-values of the tests of samples, a row a setting; left of the line is an alarm.

    `frame`: `tests` of a comparison.
    """
    if frame.empty:
        raise InvalidRequest("`frame` has no tests. Compare with `samples`.", param="frame")
    settings = list(dict.fromkeys(frame["setting"]))
    made, ((ax,),) = figure(6.4, 0.9 + 0.45 * len(settings))
    for kind, color, marker, size in (("first tokens", GREY, "o", 16), ("kernel", BLUE, "D", 34)):
        rows = frame.loc[frame["test"] == kind]
        y = [settings.index(setting) for setting in rows["setting"]]
        ax.scatter(rows["p_corrected"], y, s=size, color=color, marker=marker, label=kind, zorder=3)
    ax.axvline(alpha, color=ORANGE, linewidth=1.4, label=f"alarm at {alpha:g}")
    ax.set_xscale("log")
    ax.set_xlim(min(alpha, floats(frame, "p_corrected").min()) / 3, 1.5)
    ax.set_yticks(range(len(settings)), labels=settings)
    ax.set_ylim(len(settings) - 0.5, -0.5)
    ax.grid(visible=True, axis="x", color=FAINT, linewidth=0.6)
    name(ax, x="corrected p", title="Are the samples of one distribution?")
    legend(ax, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    return made


def _level(gaps: np.ndarray) -> np.ndarray:
    """Differences as the colours show them, log10 of nats."""
    return np.log10(np.maximum(gaps, FLOOR))


def _ends(gaps: np.ndarray) -> tuple[float, float]:
    """Ends of the colours, the same for all pictures whose differences are small."""
    known = gaps[np.isfinite(gaps)]
    return float(np.log10(FLOOR)), float(np.log10(max(known.max(initial=0), LARGE)))


def _scored(frame: pd.DataFrame) -> pd.DataFrame:
    if frame.empty:
        raise InvalidRequest(
            "`frame` has no tokens: nothing was scored by both. See the notes of the comparison.",
            param="frame",
        )
    return frame


def _short(text: str, most: int = 28) -> str:
    return text if len(text) <= most else f"…{text[1 - most :]}"
