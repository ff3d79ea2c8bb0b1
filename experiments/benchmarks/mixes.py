"""Parameters that the sampler is measured under, and requests drawn at random."""

from __future__ import annotations

import random
from typing import Any

DRAW: dict[str, Any] = {"temperature": 0.8, "top_p": 0.9}
PENALTIES = {"frequency_penalty": 0.5, "presence_penalty": 0.5, "repetition_penalty": 1.1}
BIAS = {str(17 + 31 * i): 0.5 * (i % 5 - 2) for i in range(300)}

MIXES: dict[str, dict[str, Any]] = {
    "greedy": {"temperature": 0},
    "temperature": {"temperature": 0.8},
    "top-p 0.9": DRAW,
    "top-k 50": {"temperature": 0.8, "top_k": 50},
    "min-p 0.05": {"temperature": 0.8, "min_p": 0.05},
    "top-p, top-k, min-p": {**DRAW, "top_k": 50, "min_p": 0.02},
    "top-p, penalties": {**DRAW, **PENALTIES},
    "top-p, bias of 300 ids": {**DRAW, "logit_bias": BIAS},
    "top-p, logprobs 5": {**DRAW, "logprobs": 5},
    "top-p, logprobs 20": {**DRAW, "logprobs": 20},
    "top-p, a seed": {**DRAW, "seed": 7},
    "all of them": {
        **DRAW,
        **PENALTIES,
        "top_k": 50,
        "min_p": 0.02,
        "logit_bias": BIAS,
        "logprobs": 20,
        "seed": 7,
    },
}
"""Name -> what a request asks for, in the toolkit's names."""

NEUTRAL_TO = {"top-p, a seed": "top-p 0.9"}
"""Mixes that should cost exactly what another one does."""


def random_request(rng: random.Random, vocabulary: int, *, most: int = 8) -> dict[str, Any]:
    """A request that differs from the next in everything it can ask of the sampler: ids of a
    prompt, parameters, up to `most` tokens, a seed."""
    length = rng.choice([4, 12, 30, 60, 100])
    return {
        "prompt": [rng.randrange(100, vocabulary) for _ in range(length)],
        "max_tokens": rng.randint(1, most),
        "n": rng.choice([1, 1, 1, 2, 4]),
        "seed": rng.randrange(-(2**63), 2**63),
        "temperature": rng.choice([0.0, 0.3, 0.8, 1.0, 2.0]),
        "top_p": rng.choice([0.1, 0.5, 0.9, 1.0]),
        "top_k": rng.choice([0, 1, 40]),
        "min_p": rng.choice([0.0, 0.05]),
        "typical_p": rng.choice([0.5, 1.0]),
        "frequency_penalty": rng.choice([-1.0, 0.0, 0.7]),
        "presence_penalty": rng.choice([0.0, 1.5]),
        "repetition_penalty": rng.choice([1.0, 1.3]),
        "logit_bias": rng.choice([{}, {"260": 5.0}, {"7042": -100.0, "28": 2.5}]),
        "logprobs": rng.choice([None, 0, 2, 20]),
        "details": rng.choice([False, True]),
        "logprobs_mode": rng.choice(["raw", "processed"]),
    }


def random_lengths(rng: random.Random, count: int, *, prompt: int, new: int) -> list[list[int]]:
    """Lengths of prompts and of answers: log-normal, as people's requests are, around `prompt` and
    `new` tokens, at most four times as long."""

    def length(middle: int) -> int:
        return max(4, min(4 * middle, round(middle * rng.lognormvariate(0.0, 0.7))))

    return [[length(prompt), length(new)] for _ in range(count)]
