"""A small random model, requests of every kind, and what a loaded model answers."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

import toolkit
from tests.models import tiny
from tests.oracle.toy import ToyVocabulary, write_toy
from toolkit.completion.run import Run

LETTERS = "abcdefghijklmnopqrstuvwxyz"
VOCABULARY = ToyVocabulary(words=tuple(f"{a}{b}".encode() for a in LETTERS for b in LETTERS))
"""933 ids, which are 3.6 blocks of 256: the last device's part is filled up."""

SIZES: dict[str, Any] = {
    "vocab_size": VOCABULARY.size,
    "num_attention_heads": 8,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
}

REQUESTS: tuple[dict[str, Any], ...] = (
    {"prompt": "the quick brown fox", "temperature": 0, "logprobs": 5, "max_tokens": 12},
    {"prompt": "jumps over", "seed": 1, "n": 3, "max_tokens": 12, "logprobs": 3},
    {"prompt": "the lazy dog", "seed": 2, "top_p": 0.9, "max_tokens": 10, "details": True},
    {
        "prompt": "penalties",
        "seed": 3,
        "frequency_penalty": 0.7,
        "presence_penalty": 0.3,
        "repetition_penalty": 1.3,
        "logit_bias": {97: 4.0, 930: 5.0},
        "logprobs": 2,
        "details": True,
        "max_tokens": 14,
    },
    {"prompt": "cuts", "seed": 4, "top_k": 300, "typical_p": 0.8, "min_p": 0.01, "max_tokens": 9},
    {"prompt": "choose", "seed": 5, "guided_choice": ["red", "green", "blue"], "max_tokens": 9},
    {"prompt": "echoed text", "echo": True, "logprobs": 4, "max_tokens": 3, "seed": 6},
    {"prompt": "held back", "min_tokens": 5, "stop_token_ids": [256, 100], "seed": 7},
    {"prompt": "x" * 100, "temperature": 0.5, "seed": 8, "max_tokens": 14, "top_p": 0.5},
)


BATCH = 4
"""Rows: few, so that one program of each kind serves all the requests."""


def write_model(folder: Path, **changes: Any) -> Path:
    """A complete folder: a tokenizer of 933 ids and random weights of two layers."""
    size = VOCABULARY.size
    write_toy(folder, np.zeros((size, size), np.float32), VOCABULARY, context=256)
    return tiny.write_folder(folder, **SIZES | changes)


def answers(lm: toolkit.LM) -> dict[str, list[Any]]:
    """What is said of each token that the requests, all together, are answered with: whole numbers
    (ids, ranks, sizes) and others (log-probabilities, entropies)."""
    asked = [dict(request) for request in REQUESTS]
    runs = [
        Run(lm, lm.parse(request.pop("prompt"), {"max_tokens": 8, **request}, stream=False))
        for request in asked
    ]
    choices = itertools.chain.from_iterable(run.finish().choices for run in runs)
    tokens = [token for c in choices for token in (*c.prompt_tokens, *c.tokens)]
    tops = [alternative for token in tokens for alternative in token.top]
    return {
        "whole": [*_some(tokens, "id", "rank", "support"), *_some(tops, "id")],
        "others": [*_some(tokens, *OTHERS), *_some(tops, "logprob")],
    }


OTHERS = (
    *("logprob", "sampling_logprob", "entropy", "sampling_entropy", "kept_mass", "bias"),
    "penalty",
)


def _some(things: Iterable[Any], *names: str) -> list[float]:
    values = (getattr(thing, name) for thing in things for name in names)
    return [value for value in values if value is not None]


def check_same(found: Mapping[str, Any], expected: Mapping[str, Any]) -> None:
    """The same tokens, and the same numbers but for rounding."""
    assert found["whole"] == expected["whole"]
    np.testing.assert_allclose(found["others"], expected["others"], atol=1e-5, rtol=0)
