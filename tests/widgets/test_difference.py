"""Two settings at one position, by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from toolkit.sampling.params import SamplingParams
from toolkit.widgets.difference import difference
from toolkit.widgets.live import Position, Row, live

# Probabilities 1/2, 1/4, 1/4.
POSITION = Position(row=Row(np.log(np.asarray([2, 1, 1], np.float32))))


def test_a_setting_does_not_differ_from_itself():
    a = live(POSITION, SamplingParams(top_p=0.7))
    apart = difference(a, a)
    assert (apart.total_variation, apart.divergence, apart.reverse) == (0, 0, 0)
    assert apart.fates == ()


def test_dropping_half_of_the_mass():
    # A draws from all, B from the first alone: half of A's mass moves.
    apart = difference(live(POSITION, SamplingParams()), live(POSITION, SamplingParams(top_k=1)))
    assert apart.total_variation == pytest.approx(0.5)
    assert apart.divergence == math.inf
    assert apart.reverse == pytest.approx(math.log(2))  # 1 * log(1 / 0.5)
    assert apart.fates == (1, 2)
