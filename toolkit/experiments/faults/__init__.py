"""Targets that are wrong on purpose, each in one way that real servers are.

They show what `probe` and `compare` find, and whether a study would notice:

    from toolkit.experiments import faults

    tk.compare(lm, faults.bos_added(lm))

Each function takes a loaded model, a `Remote` or an address, unless it says otherwise.
"""

from __future__ import annotations

from toolkit.experiments.faults.answers import byte_offsets, scaled_logprobs
from toolkit.experiments.faults.requests import bos_added, penalties_count_prompt, seed_ignored
from toolkit.experiments.faults.top_p import top_p_off_by_one
from toolkit.experiments.faults.weights import quantised_weights

__all__ = [
    "bos_added",
    "byte_offsets",
    "penalties_count_prompt",
    "quantised_weights",
    "scaled_logprobs",
    "seed_ignored",
    "top_p_off_by_one",
]
