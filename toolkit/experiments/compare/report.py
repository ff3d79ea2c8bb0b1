"""A comparison as one HTML page: the verdict, the table, the pictures."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Iterator

from matplotlib.figure import Figure

from toolkit.experiments.compare.comparison import Comparison

STYLE = "font-family:sans-serif;max-width:60em;margin:2em auto;line-height:1.4"


def page(found: Comparison) -> str:
    """The whole page; needs nothing beside itself."""
    title = html.escape(f"{found.evidence.name_a} and {found.evidence.name_b}")
    pictures = "".join(_image(made) for made in _pictures(found))
    probes = "".join(p._repr_html_() for p in found.evidence.probes or ())
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        f'</head><body style="{STYLE}"><h1>{title}</h1>{found._repr_html_()}{pictures}{probes}'
        "</body></html>"
    )


def _pictures(found: Comparison) -> Iterator[Figure]:
    if found.evidence.scored:
        yield found.plot()
        yield found.plot_positions()
    if found.evidence.sampled:
        yield found.plot_tests()


def _image(made: Figure) -> str:
    buffer = io.BytesIO()
    made.savefig(buffer, format="png", dpi=110)
    data = base64.b64encode(buffer.getvalue()).decode()
    return f'<p><img style="max-width:100%" alt="" src="data:image/png;base64,{data}"></p>'
