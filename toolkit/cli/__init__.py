"""The `toolkit` command and its verbs, one file for those that belong together."""

from __future__ import annotations

import io
import sys

import typer

from toolkit.cli.ask import complete, demo
from toolkit.cli.compare import compare, probe
from toolkit.cli.models import models, quality
from toolkit.cli.runs import export, merge, replay, run
from toolkit.cli.serve import serve
from toolkit.errors import ToolkitError

__all__ = ["app", "main"]

app = typer.Typer(
    add_completion=False, no_args_is_help=True, help="Text completion with exact log-probabilities."
)
for verb in (complete, demo, serve, run, replay, merge, export, probe, compare, models, quality):
    app.command()(verb)


def main() -> None:
    """Run the command; our own errors become one line and exit status 1."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(
            stream, io.TextIOWrapper
        ):  # a terminal that cannot show a character shows "?"
            stream.reconfigure(errors="replace")
    try:
        app(standalone_mode=True)
    except ToolkitError as error:
        print(f"{type(error).__name__}: {error.message}", file=sys.stderr)
        raise SystemExit(1) from None
    except KeyboardInterrupt:
        print("\ninterrupted", file=sys.stderr)
        raise SystemExit(130) from None
