"""Widgets that answer while a cell runs."""

from __future__ import annotations

from typing import Any


def beside_cells(widget: Any) -> None:
    """Let the callbacks of a widget, and of all within it, run while a cell runs.

    JupyterLab has them called on a thread of their own. ipykernel 7.4 takes those of a widget that
    a cell has made back to the cell's thread, where a click on Stop waits until there is nothing
    left to stop. Where the kernel does no such thing, and outside notebooks, nothing is changed.
    """
    waiting = [widget]
    while waiting:
        item = waiting.pop()
        waiting += getattr(item, "children", ())
        comm: Any = getattr(item, "comm", None)
        if hasattr(comm, "_reply_subshell_for"):
            comm._reply_subshell_for = _as_sent


def _as_sent(data: Any, subshell: str | None) -> str | None:
    """The thread that the page has asked for."""
    return subshell
