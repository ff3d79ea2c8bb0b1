"""Each plot draws something, from a frame, without a global state and without reading maths."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
from IPython.core.formatters import DisplayFormatter
from matplotlib.figure import Figure

from tests.analysis.answers import CHAT, OPENAI, hostile, ours
from toolkit import frames, plots
from toolkit.analysis.plots.model import reliability, wilson
from toolkit.analysis.plots.runs import agreement, distinct
from toolkit.errors import InvalidRequest

ANSWER = ours()
TOKENS = frames.tokens(ANSWER)
REQUESTS = frames.requests(ANSWER)

FIGURES: dict[str, Callable[[], Figure]] = {
    "calibration": lambda: plots.calibration(TOKENS),
    "comparison": lambda: plots.comparison(TOKENS, TOKENS),
    "diversity": lambda: plots.diversity(REQUESTS, n=1),
    "heatmap": lambda: plots.heatmap(TOKENS),
    "nucleus": lambda: plots.nucleus(TOKENS),
    "outcomes": lambda: plots.outcomes(frames.outcomes(TOKENS.assign(logprob_sampled=-0.5))),
    "probabilities": lambda: plots.probabilities(frames.candidates(ANSWER)),
    "ranks": lambda: plots.ranks(TOKENS),
    "settings": lambda: plots.settings(
        frames.add_requests(frames.candidates(ANSWER), REQUESTS, "param.temperature"), position=2
    ),
    "surprisal": lambda: plots.surprisal(TOKENS),
    "sweep": lambda: plots.sweep(frames.add_requests(TOKENS, REQUESTS, "param.temperature")),
    "typicality": lambda: plots.typicality(TOKENS, by="segment"),
}


def test_every_plot_is_tested():
    assert sorted(FIGURES) == plots.__all__


@pytest.mark.parametrize("name", FIGURES)
@pytest.mark.parametrize("kind", ["png", "svg"])
def test_every_plot_draws(name: str, kind: str):
    figure = FIGURES[name]()
    for ax in figure.axes:
        assert ax.lines or ax.patches or ax.collections
    saved = io.BytesIO()
    figure.savefig(saved, format=kind)
    assert len(saved.getvalue()) > 3000
    assert "matplotlib.pyplot" not in sys.modules


@pytest.mark.parametrize("name", ["surprisal", "heatmap"])
def test_a_figure_shows_itself_in_jupyter_at_its_size_in_print(name: str):
    figure = FIGURES[name]()
    data, shown = DisplayFormatter().format(figure)
    assert data["image/png"].startswith(b"\x89PNG")
    width, height = figure.get_size_inches()
    assert shown["image/png"] == {"width": round(96 * width), "height": round(96 * height)}


@pytest.mark.parametrize("text", ["$x^{$", "\u4e2d\U0001f600", "\x00\n\t", "<script>"])
def test_tokens_are_text_whatever_they_hold(text: str):
    frame = frames.tokens(hostile(text))
    for figure in (
        plots.heatmap(frame),
        plots.surprisal(frame),
        plots.probabilities(frames.candidates(hostile(text))),
    ):
        figure.savefig(io.BytesIO(), format="png")


def test_surprisal_is_in_bits():
    (ax,) = plots.surprisal(TOKENS).axes
    heights = [patch.get_height() for patch in ax.patches]
    assert heights[2] == pytest.approx(1.5 / np.log(2))
    assert np.isnan(heights[0])


def test_probabilities_show_both_distributions_and_what_dropped_a_token():
    (ax,) = plots.probabilities(frames.candidates(ANSWER), position=2).axes
    widths = [patch.get_width() for patch in ax.patches]
    assert widths == pytest.approx(np.exp([-0.25, -np.inf, -2.0, -0.5, -0.75, -1.5]))
    assert [text.get_text() for text in ax.texts] == ["top_p"]


def test_settings_share_tokens_and_scale_and_show_each_distribution():
    warm = frames.candidates(ANSWER).assign(**{"param.temperature": 1.0})
    cold = warm.assign(**{"param.temperature": 0.5, "request_id": "cmpl-2"})
    cold["logprob_sampled"] *= 2
    figure = plots.settings(pd.concat([warm, cold]), position=2)
    assert [ax.get_title(loc="left") for ax in figure.axes] == ["temperature 0.5", "temperature 1"]
    drawn = [[patch.get_width() for patch in ax.patches[:3]] for ax in figure.axes]
    assert drawn[1] == pytest.approx(np.exp([-0.25, -np.inf, -2.0]))
    assert drawn[0] == pytest.approx(np.exp([-0.5, -np.inf, -4.0]))
    assert figure.axes[0].get_xlim() == figure.axes[1].get_xlim()
    with pytest.raises(InvalidRequest, match="other tokens"):
        cold["token"] = cold["token"].str.upper()
        plots.settings(pd.concat([warm, cold]), position=2)


def test_typicality_is_surprisal_minus_entropy_in_bits():
    rows = pd.DataFrame({"logprob": [-1.0, -3.0], "entropy": [2.0, 2.0], "text": "a"})
    (ax,) = plots.typicality(rows, by="text").axes
    (mean,) = [line for line in ax.lines if line.get_marker() == "o"]
    assert mean.get_xdata() == pytest.approx([0.0])
    (box,) = ax.patches
    assert (box.get_x(), box.get_width()) == pytest.approx((-0.5 / np.log(2), 1 / np.log(2)))
    assert ax.get_yticklabels()[0].get_text() == "a  (2)"


def test_reliability_and_interval():
    rows = pd.DataFrame(
        {"top_logprob": np.log([0.82, 0.88, 0.35]), "logprob": np.log([0.82, 0.1, 0.35])}
    )
    table = reliability(rows)
    assert table["bin"].tolist() == [3, 8]
    assert table["hits"].tolist() == [1.0, 0.5]
    assert table["probability"].tolist() == pytest.approx([0.35, 0.85])
    low, high = wilson(np.array([0.5]), np.array([10]))
    assert (low[0], high[0]) == pytest.approx((0.2366, 0.7634), abs=1e-4)


def test_distinct():
    assert distinct(["a b a b", "a b"], 2) == 2 / 4
    assert np.isnan(distinct(["a"], 2))


def test_runs_part_where_their_tokens_differ():
    other = TOKENS.copy()
    other.loc[2, "token_id"] = 98
    assert agreement(TOKENS, other) == 2
    title = plots.comparison(TOKENS, other).axes[0].get_title(loc="left")
    assert title == "The tokens part at position 2; largest difference 0 nats"
    with pytest.raises(InvalidRequest, match="`second`"):
        plots.comparison(TOKENS, frames.tokens(CHAT))


@pytest.mark.parametrize(
    "draw",
    [
        lambda: plots.nucleus(frames.tokens(OPENAI)),
        lambda: plots.surprisal(frames.tokens([])),
        lambda: plots.surprisal(TOKENS, choice=5),
        lambda: plots.sweep(TOKENS),
        lambda: plots.calibration(TOKENS.assign(top_logprob=[np.nan, np.nan, -1.5, -0.25])),
        lambda: plots.heatmap(TOKENS, color="red"),
        lambda: plots.heatmap(TOKENS, columns=3),
    ],
)
def test_what_cannot_be_drawn_is_said(draw: Callable[[], Figure]):
    with pytest.raises(InvalidRequest):
        draw()
