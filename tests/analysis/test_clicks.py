"""Widgets that a cell has made are called on the thread that the page asks for."""

from __future__ import annotations

from typing import Any

import ipywidgets as ipw

from toolkit.analysis.clicks import beside_cells


class Comm:
    """As in ipykernel 7.4: messages go back to the thread that the widget wrote from."""

    def _reply_subshell_for(self, data: Any, subshell: str | None) -> str | None:
        return None


class Made:
    """A widget of a kernel."""

    def __init__(self, *children: Made):
        self.comm = Comm()
        self.children = children


def test_it_holds_for_all_that_a_box_contains():
    button, slider = Made(), Made()
    box = Made(Made(button), slider)
    beside_cells(box)
    for widget in (box, button, slider):
        assert widget.comm._reply_subshell_for({"method": "update"}, "beside") == "beside"
        assert widget.comm._reply_subshell_for(None, None) is None


def test_where_no_kernel_does_so_nothing_is_changed():
    box = ipw.VBox([ipw.Button()])
    before = vars(box.comm).copy()
    beside_cells(box)
    assert vars(box.comm) == before
