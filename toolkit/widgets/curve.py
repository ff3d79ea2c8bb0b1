"""The cumulative probability by rank, and where top_p cuts it."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from toolkit.widgets.live import Live, falling
from toolkit.widgets.style import BLUE, ORANGE

WIDTH, HEIGHT, LEFT, BOTTOM = 380, 150, 34, 22
POINTS = 70
"""Ranks at which a curve is drawn, evenly spaced in their logarithm."""


def curve(shown: Live, *, pinned: Live | None = None) -> str:
    """The model's own curve dashed, the one that top_p meets solid, A's dotted; as SVG."""
    parts = [_axes(len(shown.raw)), _line(falling(shown.raw), "5 3", "")]
    if pinned is not None:
        parts.append(_line(falling(pinned.tempered), "1 3", f"rgb({ORANGE})"))
    parts.append(_line(falling(shown.tempered), "", f"rgb({BLUE})"))
    parts.append(_cut(shown))
    style = f"width:100%;max-width:{WIDTH}px;height:auto;display:block"
    legend = "cumulative probability by rank: dashed model, solid what top_p meets"
    legend += ", dotted A" if pinned is not None else ""
    return (
        f'<svg role="img" aria-label="{legend}" viewBox="0 0 {WIDTH} {HEIGHT}" style="{style}" '
        f'fill="none" stroke="currentColor" font-size="10">{"".join(parts)}</svg>'
        f'<div style="font-size:.85em;opacity:.65">{legend}</div>'
    )


def _line(mass: np.ndarray, dashes: str, colour: str) -> str:
    """The running sum of masses in falling order."""
    summed = np.cumsum(mass)
    ranks = np.unique(np.geomspace(1, len(mass), POINTS).round().astype(int))
    size = len(mass)
    points = " ".join(f"{_x(rank, size):.1f},{_y(float(summed[rank - 1])):.1f}" for rank in ranks)
    paint = f'stroke="{colour}"' if colour else 'stroke-opacity=".7"'
    return f'<polyline points="{points}" {paint} stroke-width="2" stroke-dasharray="{dashes}"/>'


def _cut(shown: Live) -> str:
    """The line of top_p, and the rank at which the curve crosses it."""
    p = shown.params.top_p
    if p >= 1:
        return ""
    x, y = _x(shown.nucleus, len(shown.raw)), _y(p)
    label = f"top_p {p:g}: {shown.nucleus:,}"
    end = x > WIDTH * 0.6
    # Low beside the line there is nothing: every curve passes above.
    place = f'x="{x - 5 if end else x + 5:.1f}" y="{HEIGHT - BOTTOM - 5}"'
    return (
        f'<path d="M{LEFT},{y:.1f}H{WIDTH} M{x:.1f},{y:.1f}V{HEIGHT - BOTTOM}" '
        'stroke-opacity=".8" stroke-width="1"/>'
        f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="currentColor"/>'
        + _text(label, place, "end" if end else "start")
    )


def _axes(size: int) -> str:
    lines = "".join(f"M{LEFT},{_y(p):.1f}H{WIDTH}" for p in (0, 0.5, 1))
    parts = [f'<path d="{lines}" stroke-opacity=".25"/>']
    for p in (0, 0.5, 1):
        parts.append(_text(f"{p:g}", f'x="{LEFT - 5}" y="{_y(p) + 3:.1f}"', "end"))
    for rank in _ticks(size):
        place = f'x="{_x(rank, size):.1f}" y="{HEIGHT - 8}"'
        parts.append(_text(f"{rank:,}", place, "start" if rank == 1 else "middle"))
    return "".join(parts)


def _ticks(size: int) -> Sequence[int]:
    return [10**power for power in range(int(math.log10(max(size, 1))) + 1)]


def _text(text: str, place: str, anchor: str) -> str:
    return f'<text {place} text-anchor="{anchor}" fill="currentColor" stroke="none">{text}</text>'


def _x(rank: float, size: int) -> float:
    return LEFT + (WIDTH - LEFT - 8) * math.log(rank) / max(math.log(size), 1e-9)


def _y(share: float) -> float:
    return 8 + (HEIGHT - BOTTOM - 8) * (1 - min(share, 1.0))
