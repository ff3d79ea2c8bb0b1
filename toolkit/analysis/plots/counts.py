"""How often each of some outcomes came, and should come."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from toolkit.analysis.frames.outcomes import chi_square
from toolkit.analysis.plots.model import wilson
from toolkit.analysis.plots.style import (
    BLUE,
    FAINT,
    GREY,
    MONOSPACE,
    ORANGE,
    figure,
    floats,
    known,
    name,
    printable,
    shortened,
)
from toolkit.analysis.visible import visible


def outcomes(frame: pd.DataFrame, *, most: int = 12) -> Figure:
    """How often each completion came, with its 95 % Wilson interval, against how often it should.

    Outlined bars are the probabilities drawn with, dots what came, crosses the model's own
    probability of the same text. The title tests dots against bars. `frame`: outcomes.
    """
    rows = known(frame, "expected", "Take `frames.outcomes`.").head(most)
    y, total = np.arange(len(rows)), int(floats(frame, "count").sum())
    share, expected = floats(rows, "share"), floats(rows, "expected")
    low, high = wilson(share, np.full(len(rows), total))
    made, ((ax,),) = figure(6.0, 1.3 + 0.3 * len(rows))
    ax.barh(y, expected, height=0.7, color=ORANGE, alpha=0.5, label="drawn with")
    ax.errorbar(
        share,
        y,
        xerr=np.abs(np.stack([low, high]) - share),
        fmt="o",
        color=BLUE,
        markersize=4,
        capsize=2,
        label="came",
    )
    ax.plot(floats(rows, "model"), y, "x", color=GREY, markersize=6, label="the model's own")
    labels = [shortened(printable(visible(text)), 24) for text in rows["spelling"]]
    ax.set_yticks(y, labels=labels, fontsize=8, fontfamily=MONOSPACE)
    for text in ax.get_yticklabels():
        text.set_parse_math(False)
    ax.set_ylim(len(rows) - 0.4, -0.6)
    ax.set_xlim(0, None)
    ax.grid(visible=False, axis="y")
    ax.grid(visible=True, axis="x", color=FAINT, linewidth=0.6)
    name(ax, x="probability", title=_title(frame, total))
    made.legend(loc="outside lower center", ncols=3, fontsize=8, frameon=False)
    return made


def _title(frame: pd.DataFrame, total: int) -> str:
    test = chi_square(frame)
    return (
        f"{total:,} samples; chi-square {test.statistic:.1f} with {test.degrees} degrees of "
        f"freedom, p {test.p_value:.2g}"
    )
