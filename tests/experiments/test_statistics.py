"""The tests of samples: by hand where small, uniform under the null, powerful off it."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from scipy.stats import fisher_exact, kstest

from toolkit.experiments.statistics import count_test, holm, kernel_test, paired_difference
from toolkit.experiments.statistics.kernel import agreement, discrepancy

LETTERS = list("abcdefgh")


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


# --- by hand --------------------------------------------------------------------------------------


def test_holm_by_hand():
    # Sorted: 0.01 * 3, 0.03 * 2, 0.04 * 1, each at least the one before.
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.5, 0.9]) == [1.0, 1.0]
    assert holm([]) == []


@pytest.mark.parametrize("table", [(3, 0, 0, 3), (20, 10, 10, 20), (9, 1, 4, 6), (1, 5, 0, 6)])
def test_two_categories_are_fishers_exact_test(table: tuple[int, int, int, int]):
    a, b, c, d = table
    found = count_test("x" * a + "y" * b, "x" * c + "y" * d, rng())
    assert found.exact
    assert found.p == pytest.approx(fisher_exact([[a, b], [c, d]]).pvalue)


def test_three_against_three_by_counting_all_permutations():
    # Of the 20 ways to choose three of aab bcc, those as far out as aab: by hand below.
    pool = "aabbcc"

    def out(first: tuple[str, ...]) -> int:
        return sum((first.count(k) - 1) ** 2 for k in "abc")

    ways = [out(tuple(pool[i] for i in chosen)) for chosen in itertools.combinations(range(6), 3)]
    exact = sum(way >= out(tuple("aab")) for way in ways) / len(ways)
    found = count_test("aab", "bcc", rng())
    assert not found.exact
    assert exact == 0.6
    assert abs(found.p - exact) < 5 * math.sqrt(exact * (1 - exact) / 9_999)  # 6e-7


def test_effect_is_0_for_equal_shares_and_1_for_no_common_category():
    assert count_test("abc" * 20, "abc" * 20, rng()).effect == 0.0
    assert count_test("a" * 50, "b" * 50, rng()).effect == pytest.approx(1.0, abs=1e-6)
    assert count_test("aa", "aa", rng()).p == 1.0
    assert count_test("", "aa", rng()).p == 1.0


def test_kernel_of_texts_by_hand():
    # "abc" and "abd" agree in 2 of 3 places; "ab" is padded, and its pad agrees with no letter.
    third = 2 / 3
    expected = [[1, third, third], [third, 1, third], [third, third, 1]]
    assert np.allclose(agreement(["abc", "abd", "ab"]), expected, atol=1e-15)
    assert agreement(["abc", "axc"], 1).tolist() == [[1, 1], [1, 1]]


def test_discrepancy_is_1_for_texts_that_are_always_and_never_the_same():
    gram = agreement(["aa", "aa", "bb", "bb"])
    taken = np.array([[1.0, 1, 0, 0], [1, 0, 1, 0]])
    # Within 1 and 1, across 0: 1 + 1 - 0 = 2. Mixed: within 0 and 0, across 1/2: -1.
    assert discrepancy(gram, taken).tolist() == pytest.approx([2.0, -1.0])


def test_kernel_test_counts_the_permutations():
    # Of the 6 ways to split aabb in two, the 2 pure ones are as far out: p is about 1/3.
    found = kernel_test([(["a", "a"], ["b", "b"])], rng())
    assert abs(found.p - 1 / 3) < 5 * math.sqrt(2 / 9 / 9_999)
    assert found.effect == pytest.approx(2.0)
    assert (found.prompts, found.samples) == (1, 4)


def test_kernel_test_leaves_out_prompts_with_one_text():
    found = kernel_test([(["a"], ["b", "c"])], rng())
    assert (found.p, found.prompts, math.isnan(found.by_prompt[0])) == (1.0, 0, True)


def test_paired_difference_by_hand():
    found = paired_difference([1, 2, 3, 4], [1.5, 2.5, 3, 5], rng())
    assert found.mean == pytest.approx(0.5)
    assert found.low <= 0.5 <= found.high
    # All of the 16 sign flips: only all-plus and all-minus, and where the 0 does not matter, are as
    # far out: 4 of 16.
    assert found.p == pytest.approx(0.25)


def test_paired_difference_of_equal_gaps_and_of_nothing():
    same = paired_difference([1, 2, 3], [2, 3, 4], rng())
    assert (same.mean, same.low, same.high, same.p) == (1.0, 1.0, 1.0, 0.25)
    none = paired_difference([math.nan], [1.0], rng())
    assert (none.pairs, none.p) == (0, 1.0)
    assert math.isnan(none.mean)


# --- under the null, and off it -------------------------------------------------------------------


def texts(random: np.random.Generator, p: np.ndarray, count: int, length: int = 24) -> list[str]:
    return ["".join(random.choice(LETTERS, length, p=p)) for _ in range(count)]


def flat() -> np.ndarray:
    return np.full(8, 1 / 8)


def test_kernel_p_values_are_uniform_where_nothing_differs():
    """Kolmogorov and Smirnov, 300 p-values; a right test fails with probability 1e-4."""
    random = rng(1)
    found = [
        kernel_test(
            [(texts(random, flat(), 6), texts(random, flat(), 6)) for _ in range(3)],
            random,
            permutations=199,
            more=0,
        ).p
        for _ in range(300)
    ]
    assert kstest(found, "uniform").pvalue > 1e-4


def test_first_token_p_values_are_at_least_uniform_where_nothing_differs():
    """Ties make p-values larger, never smaller: one-sided; a right test fails with 1e-4."""
    random = rng(2)
    p = np.array([0.4, 0.2, 0.1, 0.1, 0.1, 0.05, 0.03, 0.02])
    found = [
        count_test(
            random.choice(LETTERS, 24, p=p).tolist(),
            random.choice(LETTERS, 24, p=p).tolist(),
            random,
        ).p
        for _ in range(300)
    ]
    assert kstest(found, "uniform", alternative="greater").pvalue > 1e-4


def power(change: float, *, prompts: int, count: int, rounds: int = 20) -> float:
    """How often the kernel test alarms at 0.001 where one letter is more probable by `change`."""
    random, other = rng(3), flat() - change / 7
    other[0] = 1 / 8 + change
    hits = 0
    for _ in range(rounds):
        groups = [
            (texts(random, flat(), count), texts(random, other, count)) for _ in range(prompts)
        ]
        hits += kernel_test(groups, random, more=0).p <= 0.001
    return hits / rounds


def test_power_grows_with_the_difference():
    assert power(0.0, prompts=6, count=16, rounds=10) == 0.0
    assert power(0.3, prompts=6, count=16, rounds=10) == 1.0


def test_first_tokens_that_never_agree_are_seen():
    assert count_test("a" * 24, "b" * 24, rng()).p < 1e-13
