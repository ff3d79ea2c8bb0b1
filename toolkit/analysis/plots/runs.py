"""Several answers side by side: a sweep of a parameter, diversity against quality, two runs."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from toolkit.analysis.frames.metrics import BITS
from toolkit.analysis.plots.style import (
    BLUE,
    GREY,
    INK,
    MORE,
    ORANGE,
    figure,
    floats,
    grid,
    known,
    legend,
    name,
    named,
    one,
    tokens_as_ticks,
    whole_numbers,
)
from toolkit.errors import InvalidRequest


def sweep(frame: pd.DataFrame, *, by: str = "param.temperature", columns: int = 3) -> Figure:
    """Small multiples of one parameter: how surprising the drawn tokens were to the model itself.

    Each panel is the histogram of surprisals at one value, in bits, with its mean as a line.
    `frame`: tokens with the column `by`, which `frames.add_requests` adds.
    """
    rows = known(known(frame, by, MORE), "logprob", "Ask for `logprobs`.")
    rows = rows.loc[rows["segment"] == "completion"]
    values = sorted(rows.loc[:, by].unique())
    made, axes = grid(len(values), columns, width=2.1, height=1.7, sharex=True, sharey=True)
    bits = -floats(rows, "logprob") * BITS
    edges = np.linspace(0, max(1.0, float(np.percentile(bits, 99.5))), 25)
    for ax, value in itertools.zip_longest(axes.flat, values):
        if value is None:
            ax.set_visible(False)
        else:
            part = bits[(rows.loc[:, by] == value).to_numpy(dtype=bool)]
            _histogram(ax, part, edges, f"{by.removeprefix('param.')} {named(value)}")
    _outer_labels(axes, "surprisal in bits", "share of tokens", used=len(values))
    return made


def _histogram(ax: Axes, bits: np.ndarray, edges: np.ndarray, title: str) -> None:
    # What lies beyond the last edge counts in the last bin, so that the shares sum to 1.
    inside = np.minimum(bits, edges[-1])
    ax.hist(
        inside, bins=list(edges), weights=np.full(len(bits), 1 / len(bits)), color=BLUE, alpha=0.8
    )
    mean = float(np.mean(bits))
    ax.axvline(mean, color=ORANGE, linewidth=1.4)
    ax.text(
        0.97,
        0.93,
        f"mean {mean:.2f} bits\nperplexity {2**mean:.1f}",
        transform=ax.transAxes,
        ha="right",
        va="top",
        fontsize=7.5,
        color=INK,
    )
    name(ax, title=title)


def _outer_labels(axes: np.ndarray, x: str, y: str, *, used: int) -> None:
    columns = axes.shape[1]
    for i, ax in enumerate(axes.flat):
        if i < used:
            below = i + columns
            ax.set_xlabel(x if below >= used else "", fontsize=9, color=INK)
            ax.set_ylabel(y if i % columns == 0 else "", fontsize=9, color=INK)
            ax.tick_params(labelbottom=below >= used)


def diversity(frame: pd.DataFrame, *, by: str = "param.temperature", n: int = 2) -> Figure:
    """Diversity of samples against their likelihood: one dot a value of `by`, joined in order.

    Across: mean logprob a token, over all choices with this value. Up: distinct-n, the share of
    different word n-grams among all of them (Li et al. 2016, arXiv 1510.03055); compare equal
    numbers of tokens only, since it falls with length. `frame`: requests.
    """
    table = diversities(frame, by=by, n=n)
    made, ((ax,),) = figure(4.6, 3.4)
    ax.plot(table["logprob"], table["distinct"], color=GREY, linewidth=1, zorder=1)
    ax.scatter(table["logprob"], table["distinct"], color=BLUE, s=28, zorder=2)
    for value, x, y in zip(table[by], table["logprob"], table["distinct"], strict=True):
        ax.annotate(
            named(value), (x, y), xytext=(0, 6), textcoords="offset points", fontsize=8, ha="center"
        )
    ax.margins(0.14)
    what = by.removeprefix("param.")
    name(
        ax,
        x="mean logprob a token, in nats",
        y=f"distinct-{n}",
        title=f"Diversity against likelihood, by {what}",
    )
    return made


def diversities(frame: pd.DataFrame, *, by: str, n: int = 2) -> pd.DataFrame:
    """One row a value of `by`: tokens, mean logprob a token, distinct-n; in order of the values."""
    rows = known(known(frame, by, "Take `frames.requests`."), "logprob_sum", "Ask for `logprobs`.")
    found = []
    for value, part in rows.groupby(by, sort=True):
        count = floats(part, "completion_tokens").sum()
        found.append(
            {
                by: value,
                "tokens": int(count),
                "logprob": floats(part, "logprob_sum").sum() / count,
                "distinct": distinct(part["text"], n),
            }
        )
    return pd.DataFrame(found)


def distinct(texts: Iterable[str], n: int) -> float:
    """Different n-grams of words over all n-grams; NaN where no text has n words."""
    grams: list[tuple[str, ...]] = []
    for text in texts:
        words = text.split()
        grams += zip(*(words[i:] for i in range(n)), strict=False)
    return len(set(grams)) / len(grams) if grams else math.nan


def comparison(
    first: pd.DataFrame,
    second: pd.DataFrame,
    *,
    names: tuple[str, str] = ("first", "second"),
    choice: int | None = None,
) -> Figure:
    """Two runs position by position: both logprobs above, second minus first below.

    Differences are shown for as long as both have the same tokens; a line marks where they part,
    and below the axis stand the tokens of `first`. `first`, `second`: tokens.

    Raises InvalidRequest where not even the first token is the same.
    """
    a, b = one(first, choice), one(second, choice)
    same = agreement(a, b)
    if not same:
        raise InvalidRequest(
            "`second` has another first token than `first`, so that nothing can be compared. "
            "Score one text with both models.",
            param="second",
        )
    shown = min(len(a), len(b))
    x = np.arange(shown)
    made, axes = figure(
        max(5.0, min(11.0, 1.2 + 0.15 * shown)), 4.4, rows=2, sharex=True, height_ratios=[3, 2]
    )
    upper, lower = axes[:, 0]
    values = [floats(rows, "logprob")[:shown] for rows in (a, b)]
    for line, label, color, style in zip(values, names, (BLUE, ORANGE), ("-", "--"), strict=True):
        upper.plot(
            x, line, style, color=color, marker="o", markersize=2.5, linewidth=1.3, label=label
        )
    lower.bar(x[:same], (values[1] - values[0])[:same], color=INK, alpha=0.75)
    lower.axhline(0, color=GREY, linewidth=0.8)
    name(upper, y="logprob in nats", title=_verdict(values, same, shown))
    name(lower, y="difference")
    legend(upper, loc="lower right", ncols=2)
    if same < shown:
        for ax in (upper, lower):
            ax.axvline(same - 0.5, color=GREY, linestyle=":", linewidth=1.2)
    if shown <= 64:
        tokens_as_ticks(lower, a.head(shown))
    else:
        whole_numbers(lower)
        name(lower, x="position", y="difference")
    return made


def _verdict(values: list[np.ndarray], same: int, shown: int) -> str:
    gaps = np.abs(values[1] - values[0])[:same]
    gaps = gaps[~np.isnan(gaps)]
    parts = f"the tokens part at position {same}" if same < shown else f"the same {shown} tokens"
    largest = f"; largest difference {gaps.max():.2g} nats" if len(gaps) else ""
    return f"{parts[0].upper()}{parts[1:]}{largest}"


def agreement(a: pd.DataFrame, b: pd.DataFrame) -> int:
    """How many tokens two runs share from the start: by id where both have ids, else by text."""
    ids = all(rows.loc[:, "token_id"].notna().all() for rows in (a, b))
    column = "token_id" if ids else "token"
    pairs = zip(a[column], b[column], strict=False)
    return sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], pairs))
