"""Counts against probabilities, by hand."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from toolkit import frames
from toolkit.errors import InvalidRequest


def samples(*ids: tuple[int, ...]) -> pd.DataFrame:
    """A token frame: token 1 is drawn with probability 0.75, token 2 with 0.25, and the model gave
    them half of that."""
    rows = [
        {"request_id": "r", "prompt_index": 0, "choice_index": i, "token_id": token}
        for i, sample in enumerate(ids)
        for token in sample
    ]
    frame = pd.DataFrame(rows).assign(segment="completion")
    drawn = np.log(np.where(frame["token_id"] == 1, 0.75, 0.25))
    names = frame["token_id"].map({1: "a", 2: "b"})
    return frame.assign(token=names, logprob_sampled=drawn, logprob=drawn - np.log(2))


def test_outcomes_count_and_multiply():
    table = frames.outcomes(samples((1, 2), (1, 1), (1, 2), (2, 2)))
    assert table["text"].tolist() == ["ab", "aa", "bb"]
    assert table["spelling"].tolist() == ["a|b", "a|a", "b|b"]
    assert table["count"].tolist() == [2, 1, 1]
    assert table["share"].tolist() == [0.5, 0.25, 0.25]
    assert table["expected"].tolist() == pytest.approx([0.1875, 0.5625, 0.0625])
    assert table["model"].tolist() == pytest.approx([0.1875 / 4, 0.5625 / 4, 0.0625 / 4])


def test_chi_square_by_hand():
    # 40 samples: 30 and 10 expected; 24 and 16 came: 36/30 + 36/10 = 4.8, one degree of freedom.
    test = frames.chi_square(frames.outcomes(samples(*[(1,)] * 24, *[(2,)] * 16)))
    assert test.statistic == pytest.approx(4.8)
    assert test.degrees == 1
    assert test.p_value == pytest.approx(0.0285, abs=1e-4)


def test_what_never_came_counts():
    # All 40 are "a", of which 30 were expected: 100/30 + 100/10.
    test = frames.chi_square(frames.outcomes(samples(*[(1,)] * 40)))
    assert (test.statistic, test.degrees) == (pytest.approx(100 / 30 + 100 / 10), 1)


def test_small_expectations_are_pooled():
    # 12 samples: 9 and 3 expected; 3 is too small for a cell, so one cell is left and no test.
    test = frames.chi_square(frames.outcomes(samples(*[(1,)] * 9, *[(2,)] * 3)))
    assert (test.statistic, test.degrees, test.p_value) == (pytest.approx(0.0), 0, 1.0)


@pytest.mark.parametrize("change", [{"logprob_sampled": np.nan}, {"prompt_index": range(2)}])
def test_what_cannot_be_counted_is_said(change: dict):
    with pytest.raises(InvalidRequest, match="`tokens`"):
        frames.outcomes(samples((1,), (2,)).assign(**change))
