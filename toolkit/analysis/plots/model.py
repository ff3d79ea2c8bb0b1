"""How good the model's probabilities are, over many tokens."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from toolkit.analysis.frames.metrics import BITS
from toolkit.analysis.plots.along import DETAILS
from toolkit.analysis.plots.style import (
    BLUE,
    FAINT,
    GREY,
    MORE,
    ORANGE,
    figure,
    floats,
    known,
    legend,
    name,
    named,
)
from toolkit.errors import InvalidRequest

EMPTY = "It is empty."
ONE_MORE = "Ask for at least one alternative, `logprobs=1`."


def calibration(frame: pd.DataFrame, *, bins: int = 10) -> Figure:
    """How often the model's best token came, against the probability that it gave it.

    Each dot is a bin of tokens with its 95 % Wilson interval; on the diagonal the model is
    calibrated. Below, how many tokens each bin has. ECE is the mean distance from the diagonal,
    weighted by tokens. On its own samples a model is calibrated at temperature 1 by construction:
    score a given text to learn something. `frame`: tokens with `top_logprob`.

    Raises InvalidRequest where the best token is known for some rows only: without alternatives
    those are the hits, and every bin would look perfect.
    """
    rows = known(known(frame, "logprob", EMPTY), "top_logprob", ONE_MORE)
    if missing := len(known(frame, "logprob", EMPTY)) - len(rows):
        raise InvalidRequest(
            f"`frame` has no `top_logprob` for {missing:,} tokens, those that were not the model's "
            f"best. {ONE_MORE}",
            param="frame",
        )
    table = reliability(rows, bins=bins)
    made, axes = figure(4.4, 4.8, rows=2, sharex=True, height_ratios=[4, 1])
    upper, lower = axes[:, 0]
    upper.plot([0, 1], [0, 1], color=GREY, linewidth=1, linestyle="--", label="calibrated")
    spread = np.abs(table[["low", "high"]].to_numpy().T - table["hits"].to_numpy())
    upper.errorbar(
        table["probability"],
        table["hits"],
        yerr=spread,
        fmt="o-",
        color=BLUE,
        markersize=4,
        linewidth=1.2,
        capsize=2,
        label="observed",
    )
    upper.set(xlim=(0, 1), ylim=(0, 1.02))
    error = float(np.average((table["hits"] - table["probability"]).abs(), weights=table["tokens"]))
    name(
        upper,
        y="share of hits",
        title=f"Calibration of the best token: ECE {error:.3f}, {len(rows):,} tokens",
    )
    legend(upper, loc="upper left")
    lower.bar((table["bin"] + 0.5) / bins, table["tokens"], width=0.9 / bins, color=BLUE, alpha=0.6)
    name(lower, x="probability of the model's best token", y="tokens")
    return made


def reliability(rows: pd.DataFrame, *, bins: int = 10) -> pd.DataFrame:
    """One row a bin with tokens: mean probability of the best token, share of hits, interval."""
    p = np.exp(floats(rows, "top_logprob"))
    hit = floats(rows, "logprob") >= floats(rows, "top_logprob")
    table = pd.DataFrame({"p": p, "hit": hit})
    table["bin"] = np.minimum((p * bins).astype(int), bins - 1)
    grouped = table.groupby("bin")
    out = pd.DataFrame(
        {
            "probability": grouped["p"].mean(),
            "hits": grouped["hit"].mean(),
            "tokens": grouped.size(),
        }
    ).reset_index()
    out["low"], out["high"] = wilson(out["hits"].to_numpy(), out["tokens"].to_numpy())
    return out


def wilson(share: np.ndarray, count: np.ndarray, z: float = 1.96) -> tuple[np.ndarray, np.ndarray]:
    """Wilson's interval of a share: never outside 0 to 1, also for few tokens."""
    centre = (share + z**2 / (2 * count)) / (1 + z**2 / count)
    half = z * np.sqrt(share * (1 - share) / count + z**2 / (4 * count**2)) / (1 + z**2 / count)
    return centre - half, centre + half


def typicality(frame: pd.DataFrame, *, by: str) -> Figure:
    """How much more or less surprising tokens were than the model expected, a box a group.

    Surprisal minus entropy in bits: 0 is a token that carries as much information as expected, and
    human text stays near it (Meister et al. 2022, arXiv 2202.00666). Boxes are quartiles, whiskers
    the 5th and 95th percentile, dots means. `frame`: tokens with entropy, and a column `by`.
    """
    rows = known(known(known(frame, by, MORE), "entropy", DETAILS), "logprob", EMPTY)
    bits = (-floats(rows, "logprob") - floats(rows, "entropy")) * BITS
    groups = {key: bits[(rows[by] == key).to_numpy(dtype=bool)] for key in rows.loc[:, by].unique()}
    made, ((ax,),) = figure(6.0, 1.0 + 0.42 * len(groups))
    ax.axvline(0, color=GREY, linewidth=1, linestyle="--")
    for y, part in enumerate(groups.values()):
        least, low, middle, high, most = np.percentile(part, (5, 25, 50, 75, 95))
        ax.hlines(y, least, most, color=BLUE, linewidth=1.2)
        ax.barh(y, high - low, left=low, height=0.55, color=BLUE, alpha=0.45)
        ax.vlines(middle, y - 0.275, y + 0.275, color=BLUE, linewidth=2.2)
        ax.plot(part.mean(), y, "o", color=ORANGE, markersize=5)
    labels = [f"{named(key)}  ({len(part):,})" for key, part in groups.items()]
    ax.set_yticks(range(len(groups)), labels=labels, fontsize=8)
    for text in ax.get_yticklabels():
        text.set_parse_math(False)
    ax.invert_yaxis()
    ax.grid(visible=False, axis="y")
    ax.grid(visible=True, axis="x", color=FAINT, linewidth=0.6)
    name(ax, x="surprisal minus entropy, in bits", title="Typicality (number of tokens)")
    return made


def ranks(frame: pd.DataFrame) -> Figure:
    """How many tokens stood at which rank, in bins that double: 1, 2, 3-4, 5-8, ...

    `frame`: tokens.
    """
    rows = known(frame, "rank", "Ask for `logprobs`; `details=True` adds ranks beyond the listed.")
    values = rows["rank"].to_numpy(dtype="int64")
    steps = np.ceil(np.log2(values)).astype(int)
    counts = np.bincount(steps)
    made, ((ax,),) = figure(max(4.2, 1.2 + 0.55 * len(counts)), 3.2)
    bars = ax.bar(range(len(counts)), counts / len(values), color=BLUE, alpha=0.8)
    bars[0].set_color(ORANGE)
    ax.set_xticks(range(len(counts)), labels=[_range(i) for i in range(len(counts))], fontsize=7.5)
    for i, count in enumerate(counts):
        if count:
            ax.annotate(
                f"{count:,}",
                (i, count / len(values)),
                xytext=(0, 2),
                textcoords="offset points",
                ha="center",
                fontsize=7.5,
            )
    ax.margins(y=0.12)
    name(
        ax,
        x="rank of the token that came",
        y="share of tokens",
        title=f"Ranks of {len(values):,} tokens; the number of each bin is above it",
    )
    return made


def _range(i: int) -> str:
    """Bin 0 is rank 1, bin 1 rank 2, bin 2 ranks 3-4, bin 3 ranks 5-8."""
    if i < 2:
        return str(i + 1)
    low, high = 2 ** (i - 1) + 1, 2**i
    return f"{low}-{high}" if high < 1000 else f"≤ {high / 1000:.0f}k"
