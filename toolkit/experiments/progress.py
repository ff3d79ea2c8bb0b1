"""How far a run is: a bar with rate and remaining time, in notebooks with a button to stop it."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

from toolkit.analysis.clicks import beside_cells


class Progress:
    """A bar over cells. `shown` False shows nothing."""

    def __init__(self, *, total: int, done: int, name: str, shown: bool, stop: Callable[[], None]):
        from tqdm.auto import tqdm

        self._failed = 0
        self._button = _stop_button(stop) if shown else None
        self._bar = tqdm(
            total=total,
            initial=done,
            desc=name,
            unit="cell",
            disable=not shown,
            dynamic_ncols=True,
        )

    def step(self, *, failed: bool) -> None:
        """One more cell has ended."""
        self._failed += failed
        if failed:
            self._bar.set_postfix(failed=self._failed, refresh=False)
        self._bar.update()

    def say(self, text: str) -> None:
        """A line that does not break the bar."""
        if not self._bar.disable:
            self._bar.write(text, file=sys.stderr)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bar.close()
        if self._button is not None:
            self._button.close()


def _stop_button(stop: Callable[[], None]) -> Any:
    """A button that works while the cell runs (JupyterLab calls it on a thread of its own); None
    outside notebooks."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython else None
    if shell is None or not hasattr(shell, "kernel"):
        return None
    import ipywidgets
    from IPython.display import display

    button = ipywidgets.Button(description="Stop", tooltip="Finish the cells in flight, then end")

    def pressed(_: Any) -> None:
        button.disabled = True
        stop()

    button.on_click(pressed)
    beside_cells(button)
    display(button)
    return button
