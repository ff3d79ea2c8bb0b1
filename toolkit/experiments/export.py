"""A run for others: tables as CSV or parquet, a report of one HTML page, MLflow."""

from __future__ import annotations

import base64
import html
import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from toolkit.errors import RunError
from toolkit.experiments import store, tables
from toolkit.experiments.run import Run, open_run
from toolkit.experiments.summary import varied

if TYPE_CHECKING:
    import pandas as pd

SHOWN = 20
"""Texts that the report shows."""


def export(run: Run | str | Path, *, to: str = "html", out: str | Path | None = None) -> Path | str:
    """Write a run as `to`: "csv" or "parquet" tables, a "html" report, or an "mlflow" run.

    `out`: a folder for tables, a file for the report; None is `export/` or `report.html` in the run
    folder. For MLflow `out` is the tracking address; None is MLflow's own default. Returns what was
    written: a path, or the id of the MLflow run.
    """
    run = run if isinstance(run, Run) else open_run(run)
    if to not in _FORMS:
        raise RunError(f"`to` {to!r} is not known. Use one of {', '.join(_FORMS)}.")
    return _FORMS[to](run, out)


def _csv(run: Run, out: str | Path | None) -> Path:
    """Tables as CSV; bytes in hexadecimal, missing values empty, floats so that they read back."""

    def write(frame: pd.DataFrame, path: Path) -> None:
        if "token_bytes" in frame.columns:
            spelled = [None if b is None else b.hex() for b in frame["token_bytes"].tolist()]
            frame = frame.assign(token_bytes=spelled)
        frame.to_csv(path, index=False)

    return _tables(run, out, "csv", write)


def _parquet(run: Run, out: str | Path | None) -> Path:
    return _tables(run, out, "parquet", lambda frame, path: frame.to_parquet(path, index=False))


def _tables(
    run: Run, out: str | Path | None, ending: str, write: Callable[[pd.DataFrame, Path], None]
) -> Path:
    folder = Path(out) if out is not None else run.path / "export"
    with store.space(folder):
        folder.mkdir(parents=True, exist_ok=True)
    for name in tables.NAMES:
        frame = getattr(run, name)
        store.write(folder / f"{name}.{ending}", lambda path, frame=frame: write(frame, path))
    return folder


def _html(run: Run, out: str | Path | None) -> Path:
    path = Path(out) if out is not None else run.path / "report.html"
    store.write(path, page(run))
    return path


def page(run: Run) -> str:
    """The report: question, facts, means by setting, pictures, texts, how it was made. It needs no
    other file and no network."""
    pictures = sorted((run.path / "plots").glob("*.png"))
    parts = [
        f"<h1>{html.escape(run.config.question or run.config.name)}</h1>",
        _facts(run.facts()),
        "<h2>Means, with standard errors over prompts</h2>",
        run.summary().to_html(index=False, border=0, float_format="{:.4g}".format, na_rep=""),
        *[_image(picture) for picture in pictures],
        f"<h2>The first {SHOWN} texts</h2>",
        _texts(run),
        "<h2>Declaration</h2>",
        f"<pre>{html.escape((run.path / store.CONFIG).read_text(encoding='utf-8'))}</pre>",
        "<h2>Made with</h2>",
        f"<pre>{html.escape(json.dumps(run.manifest, indent=2, ensure_ascii=False))}</pre>",
    ]
    body = "\n".join(parts)
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8">\n'
        f"<title>{html.escape(run.config.name)}</title><style>{_STYLE}</style></head>\n"
        f"<body>\n{body}\n</body></html>\n"
    )


_STYLE = (
    "body{font:15px/1.5 system-ui,sans-serif;max-width:60em;margin:2em auto;padding:0 1em}"
    "table{border-collapse:collapse}td,th{padding:.2em .8em .2em 0;text-align:left;"
    "vertical-align:top}pre{overflow:auto;background:#8881;padding:1em}img{max-width:100%}"
    "td.text{white-space:pre-wrap}"
)


def _facts(facts: dict[str, str]) -> str:
    rows = [
        f"<tr><th>{html.escape(k)}</th><td>{html.escape(v)}</td></tr>" for k, v in facts.items()
    ]
    return f"<table>{''.join(rows)}</table>"


def _image(path: Path) -> str:
    data = base64.b64encode(path.read_bytes()).decode()
    return f'<p><img alt="{html.escape(path.stem)}" src="data:image/png;base64,{data}"></p>'


def _texts(run: Run) -> str:
    frame = run.requests.head(SHOWN)
    names = [*varied(run), "seed", "prompt", "text", "finish_reason"]
    head = "".join(f"<th>{html.escape(name)}</th>" for name in names)
    rows = [
        "<tr>" + "".join(f'<td class="text">{html.escape(str(v))}</td>' for v in row) + "</tr>"
        for row in frame[names].astype(object).itertuples(index=False)
    ]
    return f"<table><tr>{head}</tr>{''.join(rows)}</table>"


def _mlflow(run: Run, out: str | Path | None) -> str:
    """One MLflow run: settings as parameters, means as metrics, the run folder as artifacts."""
    try:
        import mlflow  # pyright: ignore[reportMissingImports]: an extra
    except ImportError:
        raise RunError('This needs MLflow: pip install "completion-toolkit[mlflow]".') from None
    if out is not None:
        mlflow.set_tracking_uri(str(out))
    mlflow.set_experiment(run.config.name)
    with mlflow.start_run(run_name=run.path.name) as made:
        mlflow.log_params(_parameters(run))
        for step, row in enumerate(run.summary().to_dict("records")):
            mlflow.log_metrics(_numbers(row), step=step)
        mlflow.log_artifacts(str(run.path))
        return made.info.run_id


def _parameters(run: Run) -> dict[str, Any]:
    config = run.config
    return {
        **{name: json.dumps(value) for name, value in config.parameters.items()},
        **{f"grid.{name}": json.dumps(values) for name, values in config.grid.items()},
        **{f"zip.{name}": json.dumps(values) for name, values in config.zip.items()},
        "targets": ", ".join(run.manifest["targets"]),
        "n": config.n,
    }


def _numbers(row: dict[str, Any]) -> dict[str, float]:
    """The columns that are finite numbers, under names that MLflow takes."""
    found = {str(name): value for name, value in row.items() if isinstance(value, int | float)}
    return {name: float(value) for name, value in found.items() if value == value}


_FORMS: dict[str, Callable[[Run, Any], Path | str]] = {
    "csv": _csv,
    "parquet": _parquet,
    "html": _html,
    "mlflow": _mlflow,
}
