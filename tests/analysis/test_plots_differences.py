"""Pictures of two targets that scored the same tokens: what agrees looks alike."""

from __future__ import annotations

import io

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from toolkit.analysis.plots import differences
from toolkit.errors import InvalidRequest


def scored(*pairs: tuple[float, float]) -> pd.DataFrame:
    """One text, a token each with both log-probabilities."""
    frame = pd.DataFrame(pairs, columns=["logprob_a", "logprob_b"], dtype=float)
    frame.insert(0, "prompt_index", 0)
    frame.insert(1, "position", range(1, len(frame) + 1))
    frame.insert(2, "token", [" a", "\n", "$x$", "</b>", "e\u0301"][: len(frame)])
    return frame.assign(difference=frame["logprob_b"] - frame["logprob_a"])


def colours(made: Figure) -> tuple[np.ndarray, tuple[float, float]]:
    """The cells of the picture and the ends of its colours, log10 of nats."""
    (image,) = made.axes[0].images
    return np.ma.filled(image.get_array(), np.nan), image.get_clim()


@pytest.mark.parametrize("draw", [differences.text, differences.by_position])
def test_rounding_is_pale_and_a_difference_is_not(draw):
    equal, ends = colours(draw(scored((-1, -1), (-2, -2.0000001))))
    assert ends == (-7, -2)
    assert np.nanmax(equal) < -6.9
    wrong, ends = colours(draw(scored((-1, -1), (-2, -1.5))))
    assert ends == (-7, pytest.approx(np.log10(0.5)))
    assert np.nanmax(wrong) == pytest.approx(np.log10(0.5))


def test_numbers_under_the_tokens_are_the_differences():
    made = differences.text(scored((-1, -1), (-2, -1.5)))
    assert [text.get_text() for text in made.axes[0].texts] == ["·a", "0", "⏎", "0.5"]


def test_what_one_rules_out_is_drawn_where_it_can_be():
    frame = scored((-1, -1), (-2, -np.inf), (-np.inf, -np.inf))
    for draw in (differences.text, differences.by_position, differences.scores):
        draw(frame).savefig(io.BytesIO())
    title = differences.scores(frame).axes[1].get_title(loc="left")
    assert title == "Differences: median 0, largest 0"
    alone = differences.scores(frame.iloc[1:])
    assert alone.axes[1].get_title(loc="left") == "Differences"


def test_an_empty_frame_is_refused():
    with pytest.raises(InvalidRequest, match="nothing was scored by both"):
        differences.text(scored().iloc[:0])
