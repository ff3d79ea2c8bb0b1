"""The embedded model against itself with other arithmetic, other weights, and a BOS that nobody
tells of."""

from __future__ import annotations

from typing import Any

import pytest

import toolkit
from toolkit.completion.complete import LM
from toolkit.experiments import faults
from toolkit.experiments.compare import Comparison, compare
from toolkit.experiments.target import Answer, Target
from toolkit.experiments.target.named import as_target

pytestmark = pytest.mark.slow
PROMPTS = ("The capital of France is", "def fibonacci(n):\n    ", "Q: Why is the sky blue?\nA:")
SMALL: dict[str, Any] = {"samples": 2, "sample_tokens": 1, "max_tokens": 8, "probe": False}


def against(lm: LM, other: Any) -> Comparison:
    return compare(lm, other, PROMPTS, **SMALL)


def test_bfloat16_is_named(lm: LM):
    with toolkit.load(dtype="bfloat16") as other:
        assert against(lm, other).causes[0] == "dtype"


def test_four_bits_are_named(lm: LM):
    with faults.quantised_weights(lm, bits=4) as other:
        assert against(lm, other).causes[0] == "quantised weights"


class Silent:
    """Hides how many tokens the model read."""

    name = "silent"

    def __init__(self, target: Any):
        self.target: Target = as_target(target)

    def complete(self, fields: Any) -> Answer:
        answer = self.target.complete(fields)
        answer.body.pop("usage", None)
        return answer

    def tokenize(self, text: str) -> list[int] | None:
        return self.target.tokenize(text)

    def identity(self) -> dict[str, Any]:
        return self.target.identity()

    def close(self) -> None: ...


def test_a_bos_that_nobody_tells_of_is_found_by_its_scores(lm: LM):
    found = against(lm, Silent(faults.bos_added(lm, tells=False)))
    assert found.causes[0] == "bos"
    assert found.evidence.lead == lm.tokenizer.bos_id
