"""The most probable tokens as bars: the model's own probability in outline, what is drawn from
filled."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from toolkit.widgets.live import Live
from toolkit.widgets.style import SOLID, STRIPES, faint, percent, tag

COUNT = 20
"""Tokens that are shown."""
COLUMNS = "2.6em minmax(5em,9em) minmax(6em,1fr) 4.6em 4.6em"

Name = Callable[[int], str]
"""Token id -> HTML."""


def bars(shown: Live, name: Name, *, pinned: Live | None = None, count: int = COUNT) -> str:
    """A row a token, by the model's own rank. With `pinned`: two bars, A and B."""
    ids = top(shown, pinned, count)
    views = [shown] if pinned is None else [pinned, shown]
    scale = max(float(view.sampled[ids].max()) for view in views)
    scale = max(scale, float(shown.raw[ids].max()))
    cells = [_head(pinned is not None)]
    cells += [_row(int(token), shown, name, pinned, scale) for token in ids]
    columns = COLUMNS + (" 4.6em" if pinned is not None else "") + " minmax(4.5em,auto)"
    style = f"display:grid;grid-template-columns:{columns};column-gap:.5em;align-items:center"
    style += ";overflow-x:auto"
    numeric = "font-variant-numeric:tabular-nums;line-height:1.35;font-size:.92em"
    return f'<div style="{style};{numeric}">{"".join(cells)}</div>'


def top(shown: Live, pinned: Live | None = None, count: int = COUNT) -> np.ndarray:
    """The ids that are probable for the model or drawn from, in the order of the model."""
    best = np.maximum(shown.raw, shown.sampled)
    if pinned is not None:
        best = np.maximum(best, pinned.sampled)
    count = min(count, len(best))
    ids = np.argpartition(-best, count - 1)[:count]
    return ids[np.lexsort((ids, -shown.raw[ids]))]


def _head(pinned: bool) -> str:
    names = ["rank", "token", "", "model"] + (["A", "B"] if pinned else ["drawn"])
    ends = "text-align:right"
    cells = "".join(
        f'<div style="{ends if name not in ("token", "") else ""}">{faint(name)}</div>'
        for name in names
    )
    return cells + f"<div>{faint('dropped by')}</div>"


def _row(token: int, shown: Live, name: Name, pinned: Live | None, scale: float) -> str:
    fate = shown.dropped_by(token)
    fade = "" if fate is None else "opacity:.55;"
    clip = "overflow:hidden;text-overflow:ellipsis;white-space:pre"
    drawn = [(shown.sampled[token], SOLID)]
    if pinned is not None:
        drawn.insert(0, (pinned.sampled[token], STRIPES))
    numbers = [shown.raw[token], *(probability for probability, _ in drawn)]
    cells = [
        f'<div style="text-align:right;opacity:.65">{shown.rank(token)}</div>',
        f'<div style="{fade}{clip}" title="#{token}">{name(token)}</div>',
        _bar(shown.raw[token], drawn, scale),
        *(f'<div style="{fade}text-align:right">{percent(p)}</div>' for p in numbers),
        f"<div>{_fates(token, shown, pinned)}</div>",
    ]
    return "".join(cells)


def _fates(token: int, shown: Live, pinned: Live | None) -> str:
    after = shown.dropped_by(token)
    if pinned is None:
        return tag(after) if after else ""
    before = pinned.dropped_by(token)
    marks = [f"A {before}" if before else "", f"B {after}" if after else ""]
    return " ".join(tag(mark) for mark in marks if mark)


def _bar(raw: float, drawn: list[tuple[float, str]], scale: float) -> str:
    """Fills of `drawn` above each other, inside the outline of `raw`."""
    height = 12 if len(drawn) == 1 else 16
    each = (height - 2) / len(drawn)
    fills = "".join(
        f'<div style="height:{each:g}px;width:{_width(p, scale)};background:{ground}"></div>'
        for p, ground in drawn
    )
    outline = "position:absolute;left:0;top:0;bottom:0;border:1px solid;opacity:.6;"
    outline += f"border-left-width:2px;box-sizing:border-box;width:{_width(raw, scale)}"
    return (
        f'<div style="position:relative;padding:1px 0">{fills}<div style="{outline}"></div></div>'
    )


def _width(probability: float, scale: float) -> str:
    return f"{100 * probability / scale:.2f}%"
