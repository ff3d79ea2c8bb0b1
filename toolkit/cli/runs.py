"""The verbs of experiments: `run`, `replay`, `merge` and `export`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

RunFolder = Annotated[Path, typer.Argument(help="A run folder.")]
Quiet = Annotated[bool, typer.Option("--quiet", help="No progress bar.")]


def run(
    declaration: Annotated[Path, typer.Argument(help="A YAML file, or a run folder to go on.")],
    out: Annotated[Path | None, typer.Option(help="The run's folder; default in runs/.")] = None,
    shard: Annotated[str | None, typer.Option(help="Only a part of the cells, as 2/8.")] = None,
    on: Annotated[str | None, typer.Option(help='"ray": one actor an accelerator.')] = None,
    plan: Annotated[bool, typer.Option(help="Say what would be asked, and ask nothing.")] = False,
    quiet: Quiet = False,
) -> None:
    """Run an experiment, or go on with one."""
    from toolkit.experiments.command import planned, started

    if plan:
        print(planned(declaration, shard=shard))
        return
    done = started(declaration, out=out, shard=shard, on=on, progress=not quiet)
    print(done)
    if not done.done:
        raise typer.Exit(1)


def replay(
    folder: RunFolder,
    sample: Annotated[int | None, typer.Option(help="So many cells; default all.")] = None,
    quiet: Quiet = False,
) -> None:
    """Ask a run's cells again and compare, bit for bit."""
    import toolkit

    done = toolkit.replay(folder, sample=sample, progress=not quiet)
    print("\n".join(done.lines()))
    if not done.bitwise:
        raise typer.Exit(1)


def merge(
    parts: Annotated[list[Path], typer.Argument(help="Run folders of shards.")],
    out: Annotated[Path, typer.Option(help="The folder of the whole run.")],
) -> None:
    """Join the shards of a run."""
    from toolkit.experiments.merge import merge as join

    whole = join(parts, out)
    print(whole)
    if not whole.done:
        raise typer.Exit(1)


def export(
    folder: RunFolder,
    to: Annotated[str, typer.Option(help="csv, parquet, html or mlflow.")] = "html",
    out: Annotated[Path | None, typer.Option(help="File or folder; default beside.")] = None,
) -> None:
    """Write a run as tables, as a report of one page, or to MLflow."""
    from toolkit.experiments.export import export as write

    print(write(folder, to=to, out=out))
