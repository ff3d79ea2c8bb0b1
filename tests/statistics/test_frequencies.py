"""The test of fit itself: it passes the right distribution and notices a wrong one."""

from __future__ import annotations

import numpy as np
import pytest

from tests.statistics.frequencies import fit


def test_one_cell_is_a_binomial_test():
    # 20 of 20 from a fair coin: two tails of 2**-20, and five counts that were looked at: two
    # cells, none that is rare, the first cell and both
    p = np.array([0.5, 0.5])
    assert fit(np.array([20, 0]), p) == pytest.approx(2 * 2**-20 * 5)
    assert fit(np.array([10, 10]), p) == 1


def test_what_cannot_happen_did_not():
    assert fit(np.array([99, 1]), np.array([1.0, 0.0])) == 0


def test_false_alarms_are_as_rare_as_they_say():
    rng = np.random.default_rng(0)
    p = rng.dirichlet(np.full(300, 0.3))
    fits = np.array([fit(rng.multinomial(2000, p), p) for _ in range(2000)])
    # At most 5 % should lie below .05; 130 of 2000 would be four standard errors more.
    assert (fits < 0.05).sum() < 130 and (fits < 1e-6).sum() == 0


def test_a_small_change_is_noticed():
    rng = np.random.default_rng(1)
    p = rng.dirichlet(np.full(50, 1.0))
    warmer = p**0.9 / (p**0.9).sum()
    assert fit(rng.multinomial(10_000, p), p) > 1e-6 > fit(rng.multinomial(10_000, warmer), p)
