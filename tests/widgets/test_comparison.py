"""Columns of samples: what is drawn, stopped, resumed, and its numbers."""

from __future__ import annotations

import math
import threading

import numpy as np
import pytest

import toolkit
from tests.widgets.test_session import ELEMENTS, Parsed
from toolkit.errors import InvalidRequest
from toolkit.widgets import compare_samples

GRID = {"temperature": [0, 1.0], "top_p": [0.5, 1.0]}


def test_every_combination_is_a_column(small):
    made = compare_samples(small, "ab", GRID, n=2, max_tokens=5, seed=4)
    made.wait()
    assert list(made.frame["cell"]) == [
        "temperature 0, top_p 0.5",
        "temperature 0, top_p 1.0",
        "temperature 1.0, top_p 0.5",
        "temperature 1.0, top_p 1.0",
    ]
    for place, answer in enumerate(made.answers):
        settings = dict(made.grid.cells[place].settings)
        own = small.complete("ab", n=2, max_tokens=5, seed=4, **settings)
        assert [c["text"] for c in answer["choices"]] == [c["text"] for c in own["choices"]]
    parsed = Parsed(made.picture.value)
    assert parsed.names <= ELEMENTS | {"b"} and parsed.depth == 0
    assert made.start.disabled and made.halt.disabled
    assert made.progress.value == 4 and made.count.value == "4 of 4 columns"
    assert toolkit.compare_samples is compare_samples


def test_numbers_of_a_cell(small):
    made = compare_samples(small, "ab", [{"temperature": 0}, {"top_k": 3}], n=2, max_tokens=4)
    made.wait()
    greedy, three = made.frame.to_dict("records")
    assert greedy["different"] == 1 and greedy["entropy_sampled"] == 0
    assert 0 < three["entropy_sampled"] <= math.log2(3)
    tokens = [token for choice in made.answers[1].record.choices for token in choice.tokens]
    assert three["surprisal"] == pytest.approx(-np.mean([t.logprob for t in tokens]) / np.log(2))
    assert three["tokens"] == len(tokens)


def test_stop_keeps_the_finished_columns_and_run_goes_on(small):
    made = compare_samples(small, "ab", {"seed": [1, 2, 3, 4]}, max_tokens=4, n=1, start=False)
    assert made.frame["cell"].tolist() == ["seed 1", "seed 2", "seed 3", "seed 4"]
    reached, stopped = threading.Event(), threading.Event()
    show = made._show

    def pause(*, running):
        show(running=running)
        if made.progress.value == 2 and running:
            reached.set()
            assert stopped.wait(60)

    made._show = pause
    made.start.click()
    assert reached.wait(60)
    assert made.start.disabled and not made.halt.disabled
    made.halt.click()
    stopped.set()
    made.wait()
    kept = made.answers[:2]
    assert [answer is None for answer in made.answers] == [False, False, True, True]
    assert "not drawn yet" in made.picture.value
    assert not made.start.disabled and made.halt.disabled
    del made._show
    made.start.click()
    made.wait()
    assert made.grid.missing == []
    assert made.answers[0] is kept[0] and made.answers[1] is kept[1]


def test_an_error_stands_in_the_strip(small):
    made = compare_samples(small, "ab", {"seed": [1]}, max_tokens=4, start=False)
    made.grid.run = lambda **_: 1 // 0
    made.start.click()
    made.wait()
    assert "ZeroDivisionError" in made.message.value
    assert not made.start.disabled


@pytest.mark.parametrize(
    ("grid", "said"),
    [
        ({"temperature": [0.5, 3.0]}, "`temperature` must be in"),
        ({"temperature": 0.5}, "`grid` needs a list of values for `temperature`"),
        ({"temprature": [0.5]}, "Did you mean `temperature`"),
        ({"seed": range(65)}, "`grid` makes 65 cells"),
        ([], "`grid` makes 0 cells"),
    ],
)
def test_a_wrong_grid_is_refused_before_anything_runs(small, grid, said):
    steps = small.stats().steps
    with pytest.raises(InvalidRequest, match=said):
        compare_samples(small, "ab", grid)
    assert small.stats().steps == steps
