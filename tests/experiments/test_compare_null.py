"""Two servers with nothing between them: no false alarm, and power where there is something."""

from __future__ import annotations

import pytest
from scipy.stats import binomtest

import toolkit
from tests.experiments.wrong_servers import PROMPTS
from toolkit.completion.complete import LM
from toolkit.experiments.compare import compare
from toolkit.experiments.target import Remote

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3000)]
LEVEL, ROUNDS = 0.001, 200


@pytest.fixture(scope="module")
def toy(printable: LM) -> LM:
    return printable


def test_two_equal_servers_raise_no_alarm_in_200_comparisons(toy: LM):
    """Each comparison alarms with probability 0.001 at most, all its tests together. None in 200
    has at least probability 0.82 then; and by Clopper and Pearson it says, with 95 % confidence,
    that the true rate is below 1.5 %."""
    with (
        toolkit.serve(toy) as one,
        toolkit.serve(toy) as other,
        Remote(one.url) as a,
        Remote(other.url) as b,
    ):
        alarms = [
            seed
            for seed in range(ROUNDS)
            if not compare(
                a,
                b,
                PROMPTS[:4],
                samples=8,
                sample_tokens=6,
                max_tokens=6,
                alpha=LEVEL,
                seed=seed,
                probe=seed == 0,
            ).same
        ]
    assert alarms == []
    assert binomtest(0, ROUNDS, alternative="less").proportion_ci().high < 0.015


@pytest.mark.parametrize("temperature", [0.6, 2.0])
def test_another_temperature_is_seen_nine_times_in_ten(toy: LM, temperature: float):
    found = [
        compare(
            toy,
            toy,
            PROMPTS,
            parameters={"temperature": 1.0},
            parameters_b={"temperature": temperature},
            samples=48,
            sample_tokens=4,
            max_tokens=4,
            seed=seed,
            probe=False,
        )
        for seed in range(10)
    ]
    assert sum("sampling" in c.causes for c in found) >= 9
