"""Pictures of frames. Each function takes a frame and gives a matplotlib `Figure` of its own.

    from toolkit import frames, plots

    plots.surprisal(frames.tokens(answer)).savefig("surprisal.pdf")

Nothing here touches pyplot or any global setting, so figures may be made in threads.

style.py          how all figures look
along.py          along a text: surprisal and entropy, the nucleus
distribution.py   one position: probabilities, drawn from and dropped; under several settings
model.py          over many tokens: calibration, typicality, ranks
counts.py         how often each outcome came, and should come
runs.py           several answers: a sweep, diversity, two runs
text.py           the text itself as a heat map
"""

from __future__ import annotations

from toolkit.analysis.plots.along import nucleus, surprisal
from toolkit.analysis.plots.counts import outcomes
from toolkit.analysis.plots.distribution import probabilities, settings
from toolkit.analysis.plots.model import calibration, ranks, typicality
from toolkit.analysis.plots.runs import comparison, diversity, sweep
from toolkit.analysis.plots.text import heatmap

__all__ = [
    "calibration",
    "comparison",
    "diversity",
    "heatmap",
    "nucleus",
    "outcomes",
    "probabilities",
    "ranks",
    "settings",
    "surprisal",
    "sweep",
    "typicality",
]
