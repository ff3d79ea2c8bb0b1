"""The distribution in numbers: the model's own, what is drawn from, and what was pinned."""

from __future__ import annotations

import math
from collections.abc import Callable

from toolkit.widgets.bars import Name
from toolkit.widgets.difference import difference
from toolkit.widgets.live import Live
from toolkit.widgets.style import bits, faint, percent

FATES = 10
"""Tokens with another fate that are named."""


def facts(shown: Live, name: Name, *, pinned: Live | None = None, probe: int | None = None) -> str:
    """A table of numbers, a column a distribution. `probe` adds the rows of one token."""
    views = [shown] if pinned is None else [pinned, shown]
    heads = ["", "model", *(["drawn from"] if pinned is None else ["A", "B"])]
    total = len(shown.raw)
    rows = [
        _row("entropy, bits", bits(shown.entropy), views, lambda v: bits(v.sampling_entropy)),
        _row(
            "effective choices",
            _choices(shown.entropy),
            views,
            lambda v: _choices(v.sampling_entropy),
        ),
        _row("largest p", percent(shown.raw.max()), views, lambda v: percent(v.sampled.max())),
        _row("can be drawn", f"{total:,}", views, lambda v: f"{v.support:,}"),
        _row("kept mass", percent(1.0), views, lambda v: percent(v.kept_mass)),
        _row("nucleus of top_p", "", views, lambda v: f"{v.nucleus:,}"),
    ]
    if probe is not None:
        raw = f"{percent(shown.raw[probe])}, rank {shown.rank(probe):,}"
        rows.append(_row(name(probe), raw, views, lambda v: _probed(v, probe)))
    head = "".join(f'<th style="{CELL}">{faint(text)}</th>' for text in heads)
    table = f'<table style="{TABLE}"><tr>{head}</tr>{"".join(rows)}</table>'
    return table + ("" if pinned is None else compared(pinned, shown, name))


def compared(a: Live, b: Live, name: Name) -> str:
    """How far A and B are apart, and which tokens only one of them can draw."""
    apart = difference(a, b)
    line = (
        f"total variation {apart.total_variation:.3f} · "
        f"KL(A‖B) {bits(apart.divergence)} bits · KL(B‖A) {bits(apart.reverse)} bits"
    )
    named = ", ".join(
        f"{name(token)} {'only A' if a.alive[token] else 'only B'}" for token in apart.fates[:FATES]
    )
    more = len(apart.fates) - FATES
    rest = f" and {more:,} more" if more > 0 else ""
    fates = f"<div>{faint('another fate:')} {named}{rest}</div>" if named else ""
    return f'<div style="margin-top:.3em">{line}</div>{fates}'


CELL = "padding:.05em .7em .05em 0;text-align:left;font-weight:normal;border:0;background:none"
TABLE = "font:inherit;color:inherit;border-collapse:collapse;border:0;margin:0"


def _row(title: str, raw: str, views: list[Live], number: Callable[[Live], str]) -> str:
    cells = [raw, *(number(view) for view in views)]
    rest = "".join(f'<td style="{CELL}">{cell}</td>' for cell in cells)
    return f'<tr><td style="{CELL};opacity:.65">{title}</td>{rest}</tr>'


def _choices(nats: float) -> str:
    return f"{math.exp(nats):,.1f}"


def _probed(view: Live, token: int) -> str:
    fate = view.dropped_by(token)
    return percent(view.sampled[token]) + (f", dropped by {fate}" if fate else "")
