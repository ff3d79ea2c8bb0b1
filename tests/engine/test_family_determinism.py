"""Strict mode, of families whose norms XLA rounds in another way for another number of rows if it
may."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
from typing import Any

import numpy as np
import pytest
from flax import nnx

from tests.models.tiny_families import CASES
from toolkit import kernels
from toolkit.engine.engine import Engine
from toolkit.engine.job import Failed, Job, Prompted, Tokens
from toolkit.engine.scheduler import Limits
from toolkit.models.decoder import Decoder, holds_bits
from toolkit.models.families import read_config
from toolkit.sampling.params import Report, SamplingParams

HEADS = {"num_attention_heads": 5, "num_key_value_heads": 5, "hidden_size": 80}
FAMILIES = {
    "qwen3": HEADS | {"head_dim": 64},
    "gemma3_text": HEADS | {"head_dim": 16},
    "gpt_neox": {"hidden_size": 80, "num_attention_heads": 5},
}
"""A norm of each head; a layer norm of a width that is no power of two."""


@pytest.fixture(params=["xla", "kernels"])
def extent(request: pytest.FixtureRequest, pytestconfig: pytest.Config) -> Any:
    if request.param == "xla":
        return None
    pytest.importorskip("ziglang", reason="needs the extra [kernels]")
    assert pytestconfig.cache is not None
    kernels.prepare(pytestconfig.cache.mkdir("kernels"))
    return "decoding"


@pytest.mark.parametrize(
    "family", ["qwen3", "gpt_neox", pytest.param("gemma3_text", marks=pytest.mark.slow)]
)
@pytest.mark.parametrize("company", [5, 17])
def test_prompts_have_the_same_bits_alone_and_together(family, extent, company):
    """Seventeen make a batch of 32 rows: 320 norms of a head in a step."""
    config = read_config(CASES[family] | FAMILIES[family])
    config = dataclasses.replace(config, kernels=extent)
    rows = 1 if holds_bits(config) else 2
    limits = Limits(strict=True, max_rows=32, min_rows=rows, context=config.context)
    rng = np.random.default_rng(0)
    lengths = itertools.islice(itertools.cycle((3, 9, 14, 16, 7)), company)
    prompts = [rng.integers(0, config.vocab_size, n).tolist() for n in lengths]
    engine = Engine(Decoder(config, rngs=nnx.Rngs(0)), limits=limits)
    with contextlib.closing(engine):
        together = answers(engine, prompts)
        for prompt, among in zip(prompts, together, strict=True):
            engine.forget_prompts()
            assert answers(engine, [prompt]) == [among]


def answers(engine: Engine, prompts: list[list[int]]) -> list[Any]:
    """The logits after each prompt, and the tokens drawn with their logprobs."""
    jobs = [
        Job(
            prompt=tuple(prompt),
            params=SamplingParams(seed=1),
            max_tokens=3,
            logits=True,
            report=Report(),
        )
        for prompt in prompts
    ]
    tickets, events = engine.submit(jobs)
    found: dict[Any, list[Any]] = {ticket: [] for ticket in tickets}
    left = len(jobs)
    while left:
        event = events.get(timeout=120)
        if isinstance(event, Failed):
            raise event.error
        if isinstance(event, Prompted):
            found[event.ticket].append(np.asarray(event.logits).tobytes())
        elif isinstance(event, Tokens):
            found[event.ticket] += [(token.id, token.logprob) for token in event.tokens]
        else:
            left -= 1
    return [found[ticket] for ticket in tickets]
