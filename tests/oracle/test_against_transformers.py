"""The reference sampler against Hugging Face's logits processors, where PyTorch is installed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tests.oracle.sampler import distribution
from toolkit.sampling.params import SamplingParams

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.parity

from transformers.generation import logits_process as hf  # noqa: E402

WARPERS: list[tuple[dict[str, Any], Callable[[], Any]]] = [
    ({"top_k": 7}, lambda: hf.TopKLogitsWarper(7)),
    ({"top_p": 0.7}, lambda: hf.TopPLogitsWarper(0.7)),
    ({"min_p": 0.2}, lambda: hf.MinPLogitsWarper(0.2)),
    ({"typical_p": 0.6}, lambda: hf.TypicalLogitsWarper(0.6)),
    ({"repetition_penalty": 1.3}, lambda: hf.RepetitionPenaltyLogitsProcessor(1.3)),
]


def by_transformers(logits: np.ndarray, ids: list[int], processors: list[Any]) -> np.ndarray:
    scores = torch.tensor(logits)[None]
    for processor in processors:
        scores = processor(torch.tensor([ids]), scores)
    return torch.softmax(scores, -1)[0].numpy()


@pytest.mark.parametrize(("params", "processor"), WARPERS, ids=[next(iter(p)) for p, _ in WARPERS])
@pytest.mark.parametrize("temperature", [0.5, 1.0, 1.7])
def test_one_processor_after_temperature(params, processor, temperature):
    for seed in range(50):
        logits = np.random.default_rng(seed).normal(size=40) * 2  # float64: no cut is a near tie
        ours = distribution(
            logits,
            SamplingParams(temperature=temperature, **params),
            prompt_ids=[1, 2],
            generated_ids=[2, 3],
        )
        warp = [hf.TemperatureLogitsWarper(temperature), processor()]
        theirs = by_transformers(logits, [1, 2, 2, 3], warp)
        np.testing.assert_allclose(ours.probabilities, theirs, rtol=1e-6, atol=1e-12)


def test_all_processors_in_the_order_of_the_pipeline():
    """It is the order of Hugging Face's `generate`."""
    params = SamplingParams(
        temperature=0.8, top_k=20, top_p=0.9, min_p=0.02, typical_p=0.8, repetition_penalty=1.5
    )
    chain = [
        hf.RepetitionPenaltyLogitsProcessor(1.5),
        hf.TemperatureLogitsWarper(0.8),
        hf.TopKLogitsWarper(20),
        hf.TopPLogitsWarper(0.9),
        hf.MinPLogitsWarper(0.02),
        hf.TypicalLogitsWarper(0.8),
    ]
    for seed in range(100):
        logits = np.random.default_rng(seed).normal(size=60) * 2
        ours = distribution(logits, params, prompt_ids=[1], generated_ids=[2, 3])
        theirs = by_transformers(logits, [1, 2, 3], chain)
        np.testing.assert_allclose(ours.probabilities, theirs, rtol=1e-6, atol=1e-12)
