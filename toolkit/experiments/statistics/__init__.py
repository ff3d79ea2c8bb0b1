"""Tests that a comparison rests on: exact or by permutation, corrected, with effect sizes.

counts.py       are two samples of categories from one distribution?
kernel.py       are two samples of texts from one distribution, prompt by prompt?
corrections.py  p-values of several tests together
paired.py       a metric on the same prompts twice: the mean difference and its interval
"""

from __future__ import annotations

from toolkit.experiments.statistics.corrections import holm
from toolkit.experiments.statistics.counts import CountTest, count_test
from toolkit.experiments.statistics.kernel import KernelTest, kernel_test
from toolkit.experiments.statistics.paired import PairedDifference, paired_difference

__all__ = [
    "CountTest",
    "KernelTest",
    "PairedDifference",
    "count_test",
    "holm",
    "kernel_test",
    "paired_difference",
]
