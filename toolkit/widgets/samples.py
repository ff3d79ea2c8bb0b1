"""Several samples side by side or below each other, each token coloured."""

from __future__ import annotations

from toolkit.analysis import frames
from toolkit.analysis.heatmap import to_html
from toolkit.completion.record import Completion


def samples(answer: Completion) -> str:
    """Every choice of an answer as a coloured block, with its alternatives on hover."""
    return to_html(frames.tokens(answer), frames.candidates(answer))
