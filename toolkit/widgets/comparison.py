"""`compare_samples`: columns of samples under a grid of settings, with progress and Stop."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import ipywidgets as ipw
import pandas as pd

from toolkit.completion.complete import LM
from toolkit.completion.record import Completion
from toolkit.widgets.actions import button
from toolkit.widgets.columns import columns
from toolkit.widgets.grid import Grid, cells_of
from toolkit.widgets.style import bundle, failure
from toolkit.widgets.worker import Watch, Worker


def compare_samples(
    lm: LM,
    prompt: str,
    grid: Mapping[str, Sequence[Any]] | Sequence[Mapping[str, Any]],
    *,
    n: int = 3,
    max_tokens: int = 40,
    seed: int = 0,
    start: bool = True,
    **parameters: Any,
) -> Comparison:
    """Samples of one prompt under several settings, side by side, each token coloured.

    `grid`: a list of values for each parameter, in all combinations, or a list of settings. Every
    cell draws `n` texts with the same seed. It starts at once; Stop keeps the finished columns and
    Run goes on with the others. `.frame` and `.answers` hold what is drawn, `.wait()` waits.

    Raises InvalidRequest for a cell that breaks a rule, before anything is drawn.
    """
    fixed = {"n": n, "max_tokens": max_tokens, "seed": seed, **parameters}
    made = Comparison(Grid(lm, prompt, cells_of(lm, prompt, grid, fixed)))
    if start:
        made.run()
    return made


class Comparison:
    """The widget. What it knows stands in `grid`, which needs no browser."""

    def __init__(self, grid: Grid):
        self.grid = grid
        self.worker = Worker(self._failed, lambda: self._show(running=False))
        self.start = button("Run", "draw the columns that are missing", icon="play")
        self.halt = button("Stop", "stop, and keep the finished columns", icon="stop")
        self.progress = ipw.IntProgress(min=0, max=len(grid.cells))
        self.count = ipw.HTML()
        self.message = ipw.HTML()
        self.picture = ipw.HTML()
        self.start.on_click(lambda _: self.run())
        self.halt.on_click(lambda _: self.stop())
        bar = ipw.HBox([self.start, self.halt, self.progress, self.count])
        self.box = ipw.VBox([bar, self.message, self.picture])
        self._show(running=False)

    def run(self) -> None:
        """Draw what is missing, and return at once."""
        if not self.worker.busy:
            self.message.value = ""
            self.worker.do(self._run)

    def stop(self) -> None:
        """End the run; finished columns stay."""
        self.worker.stop()

    def wait(self) -> None:
        """Until the run is over."""
        self.worker.wait()

    @property
    def answers(self) -> list[Completion | None]:
        """The answer of each cell, in order; None where it is not drawn."""
        return list(self.grid.answers)

    @property
    def frame(self) -> pd.DataFrame:
        """A row a cell: settings, tokens, entropies, surprisal, diversity."""
        return self.grid.frame

    def _run(self, watch: Watch) -> None:
        self._show(running=True)
        self.grid.run(watch=watch, told=lambda: self._show(running=True))

    def _show(self, *, running: bool) -> None:
        done, whole = len(self.grid.cells) - len(self.grid.missing), len(self.grid.cells)
        self.progress.value = done
        self.count.value = f"{done} of {whole} columns"
        self.start.disabled = running or done == whole
        self.halt.disabled = not running
        self.picture.value = columns(self.grid)

    def _failed(self, error: Exception) -> None:
        self.message.value = failure(error)

    def _repr_mimebundle_(self, **options: Any) -> dict[str, Any]:
        return bundle(self.box, self.picture.value, repr(self), options)

    def __repr__(self) -> str:
        return f"<Comparison of {len(self.grid.cells)} settings on {self.grid.prompt!r:.80}>"
