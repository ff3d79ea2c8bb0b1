"""The pictures that a declaration asks for."""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from toolkit.errors import InvalidRequest
from toolkit.experiments import store
from toolkit.experiments.declaration import Plot
from toolkit.experiments.settings import NEUTRAL
from toolkit.experiments.summary import varied

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from toolkit.experiments.run import Run

BINS = 5


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
            has = frame.columns[frame.notna().any()]
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
        ax.errorbar(
            _values(part, wanted.x),
            part[wanted.y],
            _bars(part, wanted.y),
            marker="o",
            markersize=4,
            linewidth=1.4,
            capsize=2,
            label=label,
        )
    _finish(ax, wanted)
    return made


def _bars(table: Any, column: str) -> Any:
    """Standard errors, or none where there is one prompt."""
    error = table[f"{column}.error"].fillna(0.0).to_numpy(dtype=float)
    return error if error.any() else None


def _values(table: Any, column: str) -> Any:
    """Numbers as numbers, all else as text."""
    from pandas.api.types import is_numeric_dtype

    values = table[column]
    return values.astype(float if is_numeric_dtype(values.dtype) else str)


def _scatter(run: Run, wanted: Plot) -> Figure:
    """Mean of y against mean of x, a dot for each value of `by`."""
    from toolkit.analysis.plots import style

    table = run.summary(by=wanted.by, values=[wanted.x, wanted.y])
    made, ((ax,),) = style.figure(5.0, 3.6)
    ax.errorbar(
        table[wanted.x],
        table[wanted.y],
        _bars(table, wanted.y),
        _bars(table, wanted.x),
        color=style.BLUE,
        ecolor=style.GREY,
        elinewidth=0.8,
        fmt="o",
        markersize=5,
    )
    names = [wanted.by] if wanted.by else varied(run)
    for _, row in table.iterrows():
        text = label(names, [row[name] for name in names])
        place = (row[wanted.x], row[wanted.y])
        ax.annotate(text, place, xytext=(5, 5), textcoords="offset points", fontsize=8)
    ax.margins(0.14)
    _finish(ax, wanted)
    return made


def _calibration(run: Run, wanted: Plot) -> Figure:
    """Mean of y, 0 to 1, over five bins of x, 0 to 1; the diagonal is perfect. The more
    choices stand in a bin, the larger its dot."""
    import numpy as np
    import pandas as pd

    from toolkit.analysis.plots import style

    made, ((ax,),) = style.figure(4.4, 3.9)
    ax.plot([0, 1], [0, 1], color=style.GREY, linewidth=1, linestyle="--")
    for label, frame in _split(run.requests, wanted.by):
        both = pd.DataFrame({"x": frame[wanted.x], "y": frame[wanted.y]})
        both = both.astype("Float64").dropna().astype(float)
        groups: Any = both.groupby(np.minimum((both["x"] * BINS).astype(int), BINS - 1))
        x, y = groups["x"].mean(), groups["y"].mean()
        ax.scatter(x, y, s=8 + 6 * np.sqrt(groups.size()), alpha=0.75, label=label)
    ax.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
    _finish(ax, wanted)
    return made


def _told(column: str, value: Any) -> str:
    """A value as a label; "" for a parameter that is neutral."""
    from toolkit.analysis.plots import style

    name = column.removeprefix("param.")
    if name != column and value == getattr(NEUTRAL, name, None):
        return ""
    return f"{name} {style.named(value)}" if name != column else style.named(value)


_KINDS = {"line": _line, "scatter": _scatter, "calibration": _calibration}


def _groups(run: Run, wanted: Plot) -> list[tuple[str | None, pd.DataFrame]]:
    """The points of each line, in order, and its label; without `by` a line a setting."""
    columns = [wanted.by] if wanted.by else [name for name in varied(run) if name != wanted.x]
    table = run.summary(by=[wanted.x, *columns], values=[wanted.y]).sort_values(wanted.x)
    if not columns:
        return [(None, table)]
    groups = table.groupby(columns, sort=True, dropna=False)
    return [(label(columns, values), part) for values, part in groups]


def label(columns: list[str], values: Any) -> str:
    """A setting in words, without what is neutral in it."""
    pairs = zip(columns, values, strict=True)
    return ", ".join(filter(None, (_told(name, value) for name, value in pairs))) or "neutral"


def _split(frame: pd.DataFrame, by: str | None) -> list[tuple[str | None, pd.DataFrame]]:
    if by is None:
        return [(None, frame)]
    short = by.removeprefix("param.")
    return [(f"{short} {value}", part) for value, part in frame.groupby(by, sort=True)]


def _finish(ax: Any, wanted: Plot) -> None:
    from toolkit.analysis.plots import style

    style.name(ax, x=_words(wanted.x), y=_words(wanted.y), title=wanted.title or "")
    ax.set_yscale(wanted.scale)
    if ax.get_legend_handles_labels()[0]:
        style.legend(ax)


def _words(column: str) -> str:
    return column.removeprefix("param.").removeprefix("metric.").replace("_", " ")
