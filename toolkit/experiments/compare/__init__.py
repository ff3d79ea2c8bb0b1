"""Two targets, settings or runs side by side, with statistics and a likely cause.

targets.py     asks two targets, with asking.py and scoring.py
runs.py        reads two recorded runs
evidence.py    what was seen
verdict.py     what it means
comparison.py  how it is shown
"""

from __future__ import annotations

from toolkit.experiments.compare.comparison import Comparison
from toolkit.experiments.compare.entry import compare
from toolkit.experiments.compare.verdict import Finding

__all__ = ["Comparison", "Finding", "compare"]
