"""Colours, small pieces of HTML, and how a widget shows itself.

Lines and grounds are part opacity over the text colour, so that they hold on a light page as on a
dark one. Blue and orange are told apart by the colour-blind, and a pattern or a number says the
same as a colour everywhere.
"""

from __future__ import annotations

import html
import math
from collections.abc import Mapping
from typing import Any

from toolkit.analysis.clicks import beside_cells
from toolkit.analysis.visible import LITERAL
from toolkit.errors import ToolkitError

BLUE, ORANGE = "38,139,210", "217,95,2"
UNSELECTABLE = "-webkit-user-select:none;user-select:none"
SOLID = f"rgba({BLUE},.75)"
"""What is drawn from: filled."""
STRIPES = f"repeating-linear-gradient(135deg,rgba({ORANGE},.85) 0 3px,rgba({ORANGE},.35) 3px 6px)"
"""What was pinned: striped."""


def percent(probability: float) -> str:
    """A probability in few characters: 91.0 %, 4.21 %, 0.013 %, 2e-07."""
    if probability >= 0.0001:
        digits = 1 if probability >= 0.1 else 2 if probability >= 0.01 else 3
        return f"{100 * probability:.{digits}f} %"
    return f"{probability:.0e}" if probability > 0 else "0"


def bits(nats: float) -> str:
    """An information in bits with two digits."""
    return "∞" if math.isinf(nats) else f"{nats / math.log(2):.2f}"


def tag(text: str) -> str:
    """A word in a frame, such as the name of what dropped a token."""
    style = "border:1px solid;border-radius:3px;padding:0 .3em;font-size:.8em;opacity:.8"
    return f'<span style="{style}">{html.escape(text)}</span>'


def faint(text: str) -> str:
    """Plain text in the background."""
    return f'<span style="opacity:.65">{html.escape(text)}</span>'


def strip(text: str, *, grave: bool) -> str:
    """A message across the widget: red with a cross for an error, blue with an i for a note."""
    colour, sign = ("200,30,30", "✖") if grave else (BLUE, "i")
    style = f"border-left:4px solid rgb({colour});background:rgba({colour},.14);padding:.3em .6em"
    inner = f"<b>{sign}</b> {html.escape(text)}"
    role = "alert" if grave else "status"
    return f'<div role="{role}" style="{style};overflow-wrap:anywhere">{inner}</div>'


def failure(error: Exception) -> str:
    """The strip of an error: the message of one of ours, and of others their kind too."""
    known = isinstance(error, ToolkitError)
    return strip(str(error) if known else f"{type(error).__name__}: {error}", grave=True)


def bundle(box: Any, still: str, plain: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """What Jupyter shows of a widget: `box`, and `still` on pages without a kernel."""
    beside_cells(box)
    live: Any = box._repr_mimebundle_(**options)
    return {**live, "text/html": f"<div {LITERAL}>{still}</div>", "text/plain": plain}
