"""The pictures that a declaration asks for."""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from toolkit.errors import InvalidRequest
from toolkit.experiments import store
from toolkit.experiments.declaration import Plot

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from toolkit.experiments.run import Run

BINS = 10


def draw(run: Run) -> list[Path]:
    """Draw what a run's declaration asks for into its `plots/`; the files."""
    folder = run.path / "plots"
    with store.space(run.path):
        folder.mkdir(exist_ok=True)
    files = []
    for wanted in run.config.plots:
        made, data = picture(run, wanted), io.BytesIO()
        made.savefig(data, format="png", dpi=110, metadata={"Software": None})
        files.append(folder / f"{file_name(wanted)}.png")
        store.write(files[-1], data.getvalue())
    return files


def file_name(wanted: Plot) -> str:
    """Of a picture, without its ending."""
    name = wanted.name or f"{wanted.y}-over-{wanted.x}"
    return re.sub(r"[^\w.-]+", "-", name.replace("param.", "").replace("metric.", ""))


def picture(run: Run, wanted: Plot) -> Figure:
    """One picture. Raises InvalidRequest for columns that the run does not have."""
    frame = run.requests
    for column in (wanted.x, wanted.y, wanted.by):
        if column is not None and column not in frame.columns:
            has = [name for name in frame.columns if frame[name].notna().any()]
            raise InvalidRequest(
                f"`plots`: `{column}` is no column of this run's `requests`. It has "
                f"{', '.join(has)}.",
                param="plots",
            )
    return _KINDS[wanted.kind](run, wanted)


def _line(run: Run, wanted: Plot) -> Figure:
    """Means of y over x, with standard errors over prompts."""
    from toolkit.analysis.plots import style

    made, ((ax,),) = style.figure(5.4, 3.4)
    for label, part in _groups(run, wanted):
        error = part[f"{wanted.y}.error"].fillna(0.0)
        x = part[wanted.x]
        numeric = not _is_text(x)
        ax.errorbar(
            x.astype(float) if numeric else x.astype(str),
            part[wanted.y],
            yerror_of(error),
            marker="o",
            markersize=4,
            linewidth=1.4,
            capsize=2,
            label=label,
        )
    _finish(ax, wanted)
    return made


def yerror_of(error: pd.Series) -> Any:
    """Bars, or none where there is one prompt."""
    return error.to_numpy(dtype=float) if (error > 0).any() else None


def _scatter(run: Run, wanted: Plot) -> Figure:
    """Mean of y against mean of x, a dot for each value of `by`."""
    from toolkit.analysis.plots import style

    table = run.summary(by=wanted.by, values=[wanted.x, wanted.y])
    made, ((ax,),) = style.figure(5.0, 3.6)
    ax.errorbar(
        table[wanted.x],
        table[wanted.y],
        yerror_of(table[f"{wanted.y}.error"].fillna(0.0)),
        yerror_of(table[f"{wanted.x}.error"].fillna(0.0)),
        color=style.BLUE,
        ecolor=style.GREY,
        elinewidth=0.8,
        fmt="o",
        markersize=5,
    )
    names = [name for name in table.columns if name.startswith("param.") or name == wanted.by]
    for _, row in table.iterrows():
        text = ", ".join(style.named(row[name]) for name in names)
        place = (row[wanted.x], row[wanted.y])
        ax.annotate(text, place, xytext=(5, 5), textcoords="offset points", fontsize=8)
    ax.margins(0.14)
    _finish(ax, wanted)
    return made


def _calibration(run: Run, wanted: Plot) -> Figure:
    """Mean of y, 0 to 1, over ten bins of x, 0 to 1; the diagonal is perfect."""
    import numpy as np

    from toolkit.analysis.plots import style

    made, ((ax,),) = style.figure(4.4, 3.9)
    ax.plot([0, 1], [0, 1], color=style.GREY, linewidth=1, linestyle="--")
    for label, frame in _split(run.requests, wanted.by):
        both = frame[[wanted.x, wanted.y]].astype("Float64").dropna().astype(float)
        bins = np.minimum((both[wanted.x] * BINS).astype(int), BINS - 1)
        table = both.groupby(bins).agg(["mean", "count"])
        x, y = table[(wanted.x, "mean")], table[(wanted.y, "mean")]
        ax.plot(x, y, linewidth=1, marker="", label=label)
        ax.scatter(x, y, s=4 + 3 * np.sqrt(table[(wanted.y, "count")]))
    ax.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
    _finish(ax, wanted)
    return made


_KINDS = {"line": _line, "scatter": _scatter, "calibration": _calibration}


def _groups(run: Run, wanted: Plot) -> list[tuple[str | None, pd.DataFrame]]:
    by = [wanted.x] if wanted.by is None else [wanted.x, wanted.by]
    return _split(run.summary(by=by, values=[wanted.y]).sort_values(wanted.x), wanted.by)


def _split(frame: pd.DataFrame, by: str | None) -> list[tuple[str | None, pd.DataFrame]]:
    if by is None:
        return [(None, frame)]
    short = by.removeprefix("param.")
    return [(f"{short} {value}", part) for value, part in frame.groupby(by, sort=True)]


def _is_text(column: pd.Series) -> bool:
    from pandas.api.types import is_numeric_dtype

    return not is_numeric_dtype(column.dtype)


def _finish(ax: Any, wanted: Plot) -> None:
    from toolkit.analysis.plots import style

    style.name(ax, x=_words(wanted.x), y=_words(wanted.y), title=wanted.title or "")
    if wanted.by is not None and wanted.kind != "scatter":
        style.legend(ax)


def _words(column: str) -> str:
    return column.removeprefix("param.").removeprefix("metric.").replace("_", " ")
