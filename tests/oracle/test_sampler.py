"""The reference sampler against numbers that a person can check.

Numbers in comments are those of the contract's edge cases.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings

from tests.oracle.sampler import NothingToDraw, distribution, draw
from tests.oracle.strategies import Case, cases
from toolkit.sampling.params import SamplingParams

LOGITS = np.log([0.5, 0.3, 0.2])


def probabilities(logits, **params) -> list[float]:
    return distribution(np.asarray(logits), SamplingParams(**params)).probabilities.tolist()


def dropped_by(logits, **params) -> list[str | None]:
    return distribution(np.asarray(logits), SamplingParams(**params)).dropped_by


# Reported numbers


def test_reported_numbers_are_of_the_raw_distribution():
    d = distribution(LOGITS, SamplingParams(temperature=0.5, top_k=2, logit_bias={2: 50.0}))
    np.testing.assert_allclose(np.exp(d.raw_logprobs), [0.5, 0.3, 0.2], rtol=1e-12)
    assert d.rank.tolist() == [1, 2, 3]
    assert d.entropy == pytest.approx(
        -(0.5 * math.log(0.5) + 0.3 * math.log(0.3) + 0.2 * math.log(0.2))
    )
    assert d.support == 2 and d.kept_mass == pytest.approx(0.7)  # ids 0 and 2
    assert d.dropped_by == [None, "top_k", None]


def test_rank_gives_equal_logits_to_the_lower_id_first():
    assert distribution([1.0, 2.0, 1.0, 2.0], SamplingParams()).rank.tolist() == [3, 1, 4, 2]


def test_minus_infinity_is_not_support_and_has_no_penalty():
    d = distribution([0.0, -np.inf, 0.0], SamplingParams(frequency_penalty=1.0), generated_ids=[1])
    assert d.support == 2 and d.penalty.tolist() == [0, 0, 0]
    assert d.sampling_entropy == pytest.approx(math.log(2)) and d.raw_logprobs[1] == -np.inf


# Bias and penalties


def test_logit_bias_is_additive():  # 82
    np.testing.assert_allclose(
        probabilities(LOGITS, logit_bias={2: math.log(5)}), [1 / 3.6, 0.6 / 3.6, 2 / 3.6]
    )
    assert probabilities(LOGITS, logit_bias={1: 100.0})[1] == pytest.approx(1)
    assert probabilities(LOGITS, logit_bias={0: -100.0})[0] < 1e-40
    assert probabilities(LOGITS, temperature=0, logit_bias={0: -100.0}) == [0, 1, 0]


def test_frequency_penalty_counts_and_presence_penalty_does_not():  # 83, 84
    logits = np.zeros(3)
    d = distribution(
        logits,
        SamplingParams(frequency_penalty=0.5, presence_penalty=0.25),
        generated_ids=[1, 1, 1, 2],
        prompt_ids=[0],
    )
    assert d.edited.tolist() == [0.0, -1.75, -0.75]
    assert d.penalty.tolist() == [0.0, 1.75, 0.75]


def test_repetition_penalty_sees_prompt_and_completion_after_the_bias_and_before_the_others():
    params = SamplingParams(
        repetition_penalty=2.0, frequency_penalty=1.0, logit_bias={0: 4.0, 2: -4.0}
    )
    d = distribution([2.0, 2.0, 2.0, 2.0], params, prompt_ids=[0, 2], generated_ids=[1])
    # (2 + 4) / 2; 2 / 2 - 1; (2 - 4) * 2; untouched
    assert d.edited.tolist() == [3.0, 0.0, -4.0, 2.0]
    assert d.penalty.tolist() == [3.0, 2.0, 2.0, 0.0]


# Masks


def test_guide_masks_before_min_tokens_and_both_before_temperature():
    params = SamplingParams(min_tokens=2, stop_ids=(0, 3), temperature=0)
    d = distribution([9.0, 1.0, 5.0, 8.0], params, generated_ids=[1], allowed_ids=[1, 2, 3])
    assert d.dropped_by == ["guide", "temperature", None, "min_tokens"]
    assert d.probabilities.tolist() == [0, 0, 1, 0]
    later = distribution([9.0, 1.0, 5.0, 8.0], params, generated_ids=[1, 1], allowed_ids=[1, 2, 3])
    assert later.dropped_by == ["guide", "temperature", "temperature", None]


def test_nothing_to_draw():
    with pytest.raises(NothingToDraw):
        distribution([0.0, -np.inf], SamplingParams(), allowed_ids=[1])


# Temperature and truncation


@pytest.mark.parametrize("logits", [[1.0, 3.0, 3.0], [0.0, 0.0, 0.0]])
def test_temperature_zero_takes_the_lowest_id_among_the_largest(logits):
    assert np.argmax(probabilities(logits, temperature=0)) == np.argmax(logits)
    assert sorted(probabilities(logits, temperature=0)) == [0, 0, 1]


def test_temperature_divides():  # 87
    np.testing.assert_allclose(
        probabilities(LOGITS, temperature=0.5), np.array([25, 9, 4]) / 38, rtol=1e-12
    )
    assert probabilities(LOGITS, temperature=1e-7) == [1, 0, 0]
    assert probabilities([1.0, 1.0, 0.0], temperature=1e-7) == [0.5, 0.5, 0]
    np.testing.assert_allclose(
        probabilities(LOGITS, temperature=2),
        np.sqrt([5, 3, 2]) / np.sqrt([5, 3, 2]).sum(),
        rtol=1e-12,
    )


def test_temperature_below_the_smallest_normal_float32_is_zero():
    assert probabilities([1.0, 1.0, 0.0], temperature=1e-40) == [1, 0, 0]


@pytest.mark.parametrize(
    ("top_p", "kept"),
    [(0, [0]), (0.5, [0]), (0.51, [0, 1]), (0.79, [0, 1]), (0.81, [0, 1, 2]), (1, [0, 1, 2])],
)
def test_top_p_keeps_the_smallest_set(top_p, kept):  # 86
    logits = np.array(
        [0.0, math.log(0.6), math.log(0.4)]
    )  # .5 of the mass of .5, .3, .2 is exactly half
    drops = dropped_by(logits, top_p=top_p)
    assert [token for token, by in enumerate(drops) if by is None] == kept
    assert set(drops) <= {None, "top_p"}


def test_top_p_works_on_what_top_k_left():
    # top_k 2 leaves .625 .375 of .5 .3 .2: the first alone reaches .6, which .5 does not
    assert dropped_by(LOGITS, top_k=2, top_p=0.6) == [None, "top_p", "top_k"]


def test_ties_at_a_boundary_go_to_the_lower_id():
    assert dropped_by([0.0, 1.0, 1.0, 1.0], top_k=2) == ["top_k", None, None, "top_k"]
    assert dropped_by([1.0, 1.0, 1.0, 1.0], top_p=0.5) == [None, None, "top_p", "top_p"]
    assert dropped_by([1.0, 1.0, 1.0, 1.0], typical_p=0.75) == [None, None, None, "typical_p"]


def test_min_p_compares_with_the_largest():
    # shares of the largest: 1, .6, .4
    assert dropped_by(LOGITS, min_p=0.5) == [None, None, "min_p"]
    assert dropped_by(LOGITS, min_p=1) == [None, "min_p", "min_p"]
    assert dropped_by([0.0, 0.0, -math.log(2)], min_p=0.5) == [None, None, None]  # equal is kept
    # at T = 0.5 the shares are 1, .36, .16
    assert dropped_by(LOGITS, min_p=0.5, temperature=0.5) == [None, "min_p", "min_p"]


def test_typical_p_keeps_the_most_typical_first():
    # entropy of .5 .3 .2 is 1.0297; surprises .6931 1.2040 1.6094; distances .3366 .1743 .5797
    assert dropped_by(LOGITS, typical_p=0.29) == ["typical_p", None, "typical_p"]
    assert dropped_by(LOGITS, typical_p=0.31) == [None, None, "typical_p"]
    assert dropped_by(LOGITS, typical_p=0.81) == [None, None, None]
    assert dropped_by(LOGITS, typical_p=0) == ["typical_p", None, "typical_p"]


def test_typical_p_takes_the_entropy_of_what_is_left():
    # top_k 2 leaves .625 .375 with entropy .6616: surprises .4700 .9808, distances .1916 .3193
    assert dropped_by(LOGITS, top_k=2, typical_p=0.3) == [None, "typical_p", "top_k"]


def test_margin_is_the_distance_of_the_closest_decision():
    assert distribution(LOGITS, SamplingParams()).margin == np.inf
    assert distribution(LOGITS, SamplingParams(top_p=0.75)).margin == pytest.approx(
        0.05
    )  # .5 | .75 | .8
    assert distribution([3.0, 4.0, 2.0], SamplingParams(temperature=0)).margin == pytest.approx(
        0.25
    )
    assert distribution([4.0, 4.0], SamplingParams(temperature=0)).margin == np.inf
    assert distribution(LOGITS, SamplingParams(min_p=0.5)).margin == pytest.approx(0.2)


@given(cases(300))
@settings(max_examples=200, deadline=None)
def test_a_distribution_is_consistent(case: Case):
    d = distribution(
        case.logits,
        case.params,
        generated_ids=case.generated_ids,
        prompt_ids=case.prompt_ids,
        allowed_ids=case.allowed_ids,
    )
    kept = np.array([by is None for by in d.dropped_by])
    assert d.probabilities.sum() == pytest.approx(1) and not d.probabilities[~kept].any()
    assert 1 <= d.support <= kept.sum() and 0 <= d.kept_mass <= 1 + 1e-9
    assert 0 <= d.sampling_entropy <= math.log(d.support) + 1e-9
    assert d.margin >= 0 and d.noise > 0
    ratio = d.tempered[kept] / d.tempered[kept].max()
    np.testing.assert_allclose(d.probabilities[kept], ratio / ratio.sum(), rtol=1e-9, atol=1e-300)


# The draw


def test_draw_is_the_inverse_of_the_cumulative_mass():
    p = [0.5, 0.0, 0.25, 0.25]
    assert [draw(p, 0.9, u)[0] for u in (0, 0.499, 0.5, 0.749, 0.75, 1 - 2**-24)] == [
        0,
        0,
        2,
        2,
        3,
        3,
    ]
    assert draw(p, 0.9, 0.4)[1] == pytest.approx(0.1)
    assert draw(p, 0.9, 0.74)[1] == pytest.approx(0.01)
    assert draw([0.0, 1.0, 0.0], 0.0, 0.0) == (1, np.inf)


def test_draw_takes_a_block_of_256_first():
    p = np.zeros(600)
    p[[0, 255, 256, 599]] = [0.1, 0.3, 0.4, 0.2]  # blocks 0..255: .4, 256..511: .4, 512..599: .2
    assert draw(p, 0.39, 0.24)[0] == 0
    assert draw(p, 0.39, 0.26)[0] == 255
    assert draw(p, 0.41, 0.99)[0] == 256
    assert draw(p, 0.81, 0.0)[0] == 599
    assert draw(p, 0.39, 0.26)[1] == pytest.approx(0.01)


def test_draw_needs_no_normalised_mass():
    p = np.array([1.0, 2.0, 5.0])
    assert all(draw(p * 1e-30, 0.5, u) == draw(p, 0.5, u) for u in (0.1, 0.2, 0.6))
