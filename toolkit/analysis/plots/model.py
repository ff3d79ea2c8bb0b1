"""How good the model's probabilities are, over many tokens."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from toolkit.analysis.plots.style import BLUE, GREY, ORANGE, figure, floats, known, legend, name


def calibration(frame: pd.DataFrame, *, bins: int = 10) -> Figure:
    """How often the model's best token came, against the probability that it gave it.

    Each dot is a bin of tokens with its 95 % Wilson interval; on the diagonal the model is
    calibrated. Below, how many tokens each bin has. ECE is the mean distance from the diagonal,
    weighted by tokens. On its own samples a model is calibrated at temperature 1 by construction:
    score a given text to learn something. `frame`: tokens with `top_logprob`.
    """
    rows = known(known(frame, "top_logprob", "Ask for `logprobs`."), "logprob", "It is empty.")
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
