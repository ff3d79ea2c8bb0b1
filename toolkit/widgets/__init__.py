"""Sliders on real logits: a pure handler each, and thin wiring to ipywidgets.

live.py        the sampler's transforms on one row of logits, in NumPy
draw.py        one draw from a distribution on display
difference.py  two sets of parameters at one position
settings.py    what is asked for, as code, JSON and YAML
walk.py        a text and a cursor in it
session.py     all of that together: the explorer without a widget
style.py, names.py, bars.py, curve.py, facts.py, text.py, page.py, samples.py     pictures in HTML
worker.py      a thread for what takes long
controls.py, bias.py, actions.py, explorer.py                                     ipywidgets
grid.py, columns.py, comparison.py                                                samples of a grid
"""

from __future__ import annotations

from toolkit.widgets.comparison import Comparison, compare_samples
from toolkit.widgets.explorer import Explorer, explore

__all__ = ["Comparison", "Explorer", "compare_samples", "explore"]
