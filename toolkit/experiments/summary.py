"""Means with their errors, for each setting of a run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from toolkit.errors import InvalidRequest

if TYPE_CHECKING:
    import pandas as pd

    from toolkit.experiments.run import Run

ALWAYS = ("logprob_mean", "completion_tokens")


def summary(
    run: Run, *, by: str | list[str] | None = None, values: list[str] | None = None
) -> pd.DataFrame:
    """One row a value of `by`: choices, and mean and standard error of each column of `values`.

    The error is over prompts: the mean of each prompt counts once, because choices of one prompt
    are not independent. With one prompt it is NaN.
    """
    frame: Any = run.requests
    by = varied(run) if by is None else [by] if isinstance(by, str) else list(by)
    metrics = [name for name in frame.columns if name.startswith("metric.")]
    values = list(dict.fromkeys([*ALWAYS, *metrics] if values is None else values))
    for name in (*by, *values):
        if name not in frame.columns:
            raise InvalidRequest(
                f"`{name}` is no column of this run's `requests`. "
                f"It has {', '.join(frame.columns)}."
            )
    numbers = frame[[*by, "prompt_index"]].assign(
        **{name: frame[name].astype("Float64").astype("float64") for name in values}
    )
    counts = numbers.groupby(by, dropna=False).size()
    prompts = numbers.groupby([*by, "prompt_index"], dropna=False)[values].mean()
    groups = prompts.groupby(level=list(range(len(by))), dropna=False)
    made: dict[str, Any] = {"choices": counts}
    for name in values:
        made[name] = groups[name].mean()
        made[f"{name}.error"] = groups[name].sem()
    return _frame(made)


def varied(run: Run) -> list[str]:
    """The columns that tell the settings of a run apart."""
    names = [f"param.{name}" for name in (*run.config.grid, *run.config.zip)]
    several = len(run.manifest["targets"]) > 1
    return ["target", *names] if several or not names else names


def _frame(columns: dict[str, Any]) -> pd.DataFrame:
    import pandas as pd

    return pd.DataFrame(columns).reset_index()
