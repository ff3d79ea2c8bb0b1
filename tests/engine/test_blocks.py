"""What an accelerator runs: several steps in a dispatch, and programs that hold only what is asked.
Here they run on a CPU, and must draw what the CPU's own way draws."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
import pytest
from flax import nnx

import toolkit
from tests.contract import toys
from tests.engine.test_scheduler import ticket
from tests.models.tiny_families import CASES
from tests.oracle.toy import write_toy
from toolkit.completion.complete import LM
from toolkit.engine.scheduler import Limits, Scheduler
from toolkit.engine.state import DecodeState
from toolkit.engine.steps import Steps
from toolkit.models.decoder import Decoder
from toolkit.models.families import read_config
from toolkit.sampling.guide import pack
from toolkit.sampling.params import Report, Rows, SamplingParams
from toolkit.sampling.variant import Variant

REQUESTS: list[dict[str, Any]] = [
    {"prompt": ["q", "r", "s"], "temperature": 1.3, "top_p": 0.9, "logprobs": 3, "details": True},
    {"prompt": "r", "frequency_penalty": 1.5, "logit_bias": {"97": 3.0}, "top_k": 9},
    {"prompt": "t", "guided_choice": ["aab", "aac", "bbbbbbbbbbbb"]},
]
"""17 tokens each: the first comes with the prompt, the others in two blocks of eight."""


@pytest.fixture(scope="module")
def lm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LM]:
    folder = tmp_path_factory.mktemp("blocks") / "toy"
    write_toy(folder, toys.table(), toys.VOCABULARY, context=128)
    with toolkit.load(folder, max_batch=8, strict=True) as loaded:
        yield loaded


def drawn(lm: LM, request: dict[str, Any]) -> list[Any]:
    record = lm.complete(seed=11, max_tokens=17, **request).record
    return [(c.text, c.finish_reason, [(t.id, t.rank) for t in c.tokens]) for c in record.choices]


def test_blocks_of_unguarded_steps_draw_the_same(lm: LM, monkeypatch):
    expected = [drawn(lm, request) for request in REQUESTS]
    monkeypatch.setattr(lm.engine, "_on_cpu", False)
    assert [drawn(lm, request) for request in REQUESTS] == expected
    assert any("steps=8" in name for name, _ in lm.stats().compiles)


def test_a_block_is_no_longer_than_needed_and_short_while_others_wait():
    scheduler = Scheduler(Limits())
    assert scheduler.block(8) == 0
    scheduler.rearrange(2)
    scheduler.seat(ticket(max_tokens=7))
    assert [scheduler.block(most) for most in (1, 2, 8)] == [1, 2, 4]
    scheduler.seat(ticket(max_tokens=30))
    assert scheduler.block(8) == 8
    scheduler.waiting.append(ticket())
    assert scheduler.block(8) == 1


def test_a_program_holds_what_its_rows_ask_for_and_nothing_else():
    params = [SamplingParams(temperature=0), SamplingParams(top_p=0.5, min_tokens=3)]
    rows = Rows.stack(params, [Report(), Report(top=2)])
    variant = Variant.needed(rows, [False, False], top=20)
    assert variant.stages == {"temperature", "top_p", "min_tokens"}
    assert not variant.guarded and not variant.details
    rows = Rows.stack(params, [Report(details=True), Report()])
    assert Variant.needed(rows, [True, False], top=20).stages > {"guide"}
    assert Variant.needed(rows, [True, False], top=20).details
    assert isinstance(rows.temperature, np.ndarray)


@pytest.mark.parametrize("family", ["llama", "mixtral", "qwen3_moe", "gemma3_text", "gpt_neox"])
def test_no_branch_or_loop_of_an_accelerator_depends_on_data(family: str, monkeypatch):
    """It would wait there for the host."""
    steps, leaves = Steps.of(Decoder(read_config(CASES[family]), rngs=nnx.Rngs(0)))
    everything = SamplingParams(
        temperature=0.7, top_k=5, top_p=0.9, min_p=0.1, typical_p=0.9, logit_bias={3: 1.0}
    )
    penalised = SamplingParams(presence_penalty=1.0, min_tokens=4, stop_ids=(1,))
    reports = [Report(top=5, details=True, processed=True), Report()]
    rows, (tables, _) = Rows.stack([everything, penalised], reports), pack([])
    state = DecodeState.zeros(steps.config, rows=2, slots=64, dtype=leaves[0].dtype)
    needed = Variant.needed(rows, [True, False], top=20)
    assert not needed.guarded and needed.stages > {"guide", "min_tokens", "typical_p"}

    def names(variant: Variant) -> set[str]:
        traced = steps.decode.trace(leaves, state, rows, tables, None, 8, variant)
        return set(primitives(traced.jaxpr.jaxpr))

    assert "cond" in names(Variant())  # a CPU chooses while it runs
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    found = names(needed)
    assert "scan" in found  # of a known length
    assert not found & {"cond", "while"}


def primitives(jaxpr: Any) -> Iterator[str]:
    """Names of all operations, those of inner programs too."""
    for equation in jaxpr.eqns:
        yield equation.primitive.name
        for inner in jax.tree.leaves(list(equation.params.values()), is_leaf=is_program):
            if is_program(inner):
                yield from primitives(getattr(inner, "jaxpr", inner))


def is_program(x: Any) -> bool:
    return hasattr(x, "eqns") or hasattr(getattr(x, "jaxpr", None), "eqns")


def test_stats_know_speed_and_share_of_bandwidth(lm: LM):
    lm.complete("q", max_tokens=20, ignore_eos=True)
    stats = lm.stats()
    assert stats.decoded <= stats.generated and stats.read_bytes > 0
    assert stats.tokens_per_second == stats.decoded / stats.decode_seconds
    assert stats.share_of_bandwidth is not None and 0 < stats.share_of_bandwidth < 2
    assert sum(stats.buckets.values()) == stats.steps
    assert all(re.fullmatch(r"\d+x\d+", bucket) for bucket in stats.buckets)
    line = repr(stats)
    for word in ("of memory bandwidth", "tokens/s", "prefix cache", "buckets", "on disk"):
        assert word in line
    assert "\n" not in line
