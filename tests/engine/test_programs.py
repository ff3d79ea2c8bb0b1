"""One program for every mix of parameters, compiled once, with its state written in place."""

from __future__ import annotations

import collections
import concurrent.futures
import contextlib
import functools
import os
import random
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import jax
import numpy as np
import pytest
from flax import nnx

import toolkit
from tests.contract import toys
from tests.models.tiny_families import CASES
from tests.oracle.toy import write_toy
from toolkit.completion.run import Run
from toolkit.engine import programs
from toolkit.engine.engine import Engine
from toolkit.engine.job import Failed, Job, Tokens
from toolkit.engine.scheduler import Limits
from toolkit.engine.steps import DecodeState
from toolkit.models.decoder import Decoder
from toolkit.models.families import read_config
from toolkit.sampling.guide import pack
from toolkit.sampling.params import Report, Rows, SamplingParams
from toolkit.sampling.variant import Variant


def any_request(rng: random.Random) -> dict:
    """Parameters that differ in everything that a request can ask of the sampler."""
    asked = {
        "temperature": rng.choice([0.0, 0.3, 0.8, 1.0, 2.0]),
        "top_p": rng.choice([0.1, 0.5, 0.9, 1.0]),
        "top_k": rng.choice([0, 1, 40]),
        "min_p": rng.choice([0.0, 0.05]),
        "typical_p": rng.choice([0.5, 1.0]),
        "frequency_penalty": rng.choice([-1.0, 0.0, 0.7]),
        "presence_penalty": rng.choice([0.0, 1.5]),
        "repetition_penalty": rng.choice([1.0, 1.3]),
        "logit_bias": rng.choice([{}, {"260": 5.0}, {"7042": -100, "28": 2.5}]),
        "seed": rng.randrange(-(2**63), 2**63),
        "logprobs": rng.choice([None, 0, 2, 20]),
        "details": rng.choice([False, True]),
        "logprobs_mode": rng.choice(["raw", "processed"]),
        "max_tokens": rng.randrange(1, 6),
        "min_tokens": rng.choice([0, 1]),
        "stop": rng.choice([None, [" the"], ["a", "\n"]]),
    }
    if rng.random() < 0.2:
        asked |= {
            "guided_choice": [" Paris", " London", " a village"],
            "stop": None,
            "min_tokens": 0,
        }
    return asked


def test_another_value_compiles_nothing(lm):
    lm.complete("The capital of France is", max_tokens=2)
    before = dict(lm.engine.steps.traces)
    for change in ({"temperature": 0.1}, {"top_p": 0.3}, {"seed": 9}, {"max_tokens": 3}):
        lm.complete("The capital of France is", **{"max_tokens": 2, **change})
    assert lm.engine.steps.traces == before


def test_fifty_different_requests_compile_nothing(lm):
    rng = random.Random(0)
    lm.complete("The weather today", max_tokens=2)
    before = dict(lm.engine.steps.traces)
    for _ in range(50):
        lm.complete("The weather today", **any_request(rng))
    assert lm.engine.steps.traces == before


def test_a_mixed_batch_runs_in_one_program(lm):
    """Sixteen requests that differ in every parameter, together, on the step of sixteen rows."""
    rng = random.Random(1)
    requests = [lm.parse(f"Prompt {i} is", any_request(rng), stream=False) for i in range(16)]
    lm.complete("Warm", n=16, max_tokens=3)
    before = dict(lm.engine.steps.traces)
    with lm.engine._wake:  # the engine waits until all sixteen are there
        runs = [Run(lm, request) for request in requests]
    records = [run.finish() for run in runs]
    assert all(record.choices for record in records)
    assert lm.engine.steps.traces["decode"] == before["decode"]


@pytest.fixture(scope="module", params=[False, True], ids=["xla", "kernels"])
def compiled(request: pytest.FixtureRequest):
    """The decode step of four rows and 256 slots, compiled."""
    if request.param:
        pytest.importorskip("ziglang", reason="needs the extra [kernels]")
    with toolkit.load(kernels=request.param) as lm:
        steps, config = lm.engine.steps, lm.engine.config
        state = DecodeState.zeros(config, rows=4, slots=256, dtype=lm.engine.dtype)
        rows = Rows.stack([SamplingParams()] * 4, [Report()] * 4)
        tables, _ = pack([])
        lowered = steps.decode.lower(lm.engine.leaves, state, rows, tables, None, 1, Variant())
        yield lowered.compile(), state, lm.engine.leaves


def test_the_state_is_written_in_place(compiled):
    program, state, _ = compiled
    size = sum(x.nbytes for x in jax.tree.leaves(state.cache))
    assert program.memory_analysis().alias_size_in_bytes >= size


def test_no_op_copies_the_cache_or_a_weight(compiled):
    program, state, leaves = compiled
    shapes = {x.shape for x in jax.tree.leaves(state.cache)}
    assert not copied(program) & (shapes | {x.shape for x in leaves if x.ndim == 2})


@pytest.mark.parametrize("compiled", [True], ids=["kernels"], indirect=True)
def test_no_op_copies_logits_or_counts(compiled):
    """A large array of a step's own would also be new memory each time. XLA's own sampler copies
    where a condition does not hold."""
    program, state, _ = compiled
    assert state.logits.shape == state.history.counts.shape
    assert state.logits.shape not in copied(program)
    assert program.memory_analysis().temp_size_in_bytes < state.logits.nbytes / len(state.logits)


def copied(program: jax.stages.Compiled) -> set[tuple[int, ...]]:
    """Shapes of the arrays that a program copies."""
    found = re.findall(r"= \w+\[([\d,]+)\]\S* (?:copy|transpose)\(", program.as_text() or "")
    return {tuple(map(int, dims.split(","))) for dims in found}


def test_rows_are_born_with_fixed_dtypes():
    rows = Rows.stack([SamplingParams(temperature=1, seed=-1, logit_bias={3: 1})], [Report(top=2)])
    kinds = {name: np.asarray(value).dtype.name for name, value in vars(rows).items()}
    assert set(kinds.values()) == {"float32", "int32", "uint32", "bool"}
    assert rows.seed.tolist() == [[2**32 - 1, 2**32 - 1]]


@pytest.fixture
def tiny() -> Iterator[Engine]:
    decoder = Decoder(read_config(CASES["llama"]), rngs=nnx.Rngs(0))
    with contextlib.closing(Engine(decoder, limits=Limits(context=64))) as engine:
        yield engine


def drawn(engine: Engine, seed: int) -> list[int]:
    """The tokens of a request, its prompt being of a length of its own."""
    params = SamplingParams(temperature=1.0, seed=seed)
    (ticket,), events = engine.submit([Job(prompt=(1, 2) * seed, params=params, max_tokens=2)])
    tokens: list[int] = []
    while not ticket.over or not events.empty():
        event = events.get(timeout=120)
        assert not isinstance(event, Failed)
        tokens += [token.id for token in event.tokens] if isinstance(event, Tokens) else []
    return tokens


@pytest.mark.skipif(not programs.AREAS.exists(), reason="a limit of Linux")
def test_programs_are_dropped_before_areas_of_memory_run_out(tiny, tmp_path, monkeypatch):
    """What is called again afterwards is compiled again, and draws the same."""
    before = [drawn(tiny, seed) for seed in (1, 9)]
    limit = tmp_path / "max_map_count"
    limit.write_text("100")
    monkeypatch.setattr(programs, "GRANTED", limit)
    monkeypatch.setattr(programs, "_left", 0)
    known, held = {name for name, _ in tiny.stats.compiles}, areas()
    drawn(tiny, 30)
    assert areas() < held
    limit.write_text(str(2**31))
    with concurrent.futures.ThreadPoolExecutor(2) as threads:
        together = list(threads.map(functools.partial(drawn, tiny), (1, 9)))
    assert together == before
    names = collections.Counter(name for name, _ in tiny.stats.compiles)
    assert any(names[name] > 1 for name in known)


def areas() -> int:
    """Areas of memory that this process has."""
    return programs.AREAS.read_text().count("\n")


def test_programs_stay_while_there_is_room(tmp_path, monkeypatch):
    """Of a hundred areas forty are held by something else: programs may have thirty."""
    places = [tmp_path / "maps", tmp_path / "max_map_count"]
    held, limit = places
    for name, place in zip(("AREAS", "GRANTED"), places, strict=True):
        monkeypatch.setattr(programs, name, place)
    monkeypatch.setattr(programs, "_left", 0)
    limit.write_text("100")
    for count, crowded in ((50, False), (51, True)):
        held.write_text("area\n" * count)
        assert programs.crowded() == crowded
    monkeypatch.setattr(programs, "_left", 40)
    for count, crowded in ((51, False), (70, False), (71, True)):
        held.write_text("area\n" * count)
        assert programs.crowded() == crowded
    limit.unlink()  # not Linux
    assert not programs.crowded()


CHILD = """
import sys, toolkit
with toolkit.load(sys.argv[1]) as lm:
    lm.complete("q", max_tokens=3, ignore_eos=True)
    print(len(lm.stats().compiles), lm.stats().from_disk, "on disk" in repr(lm.stats()))
"""


def test_a_second_process_reads_what_the_first_compiled(tmp_path):
    model = write_toy(tmp_path / "toy", toys.table(), toys.VOCABULARY)
    told = []
    for _ in range(2):
        done = subprocess.run(
            [sys.executable, "-c", CHILD, str(model)],
            env={**os.environ, "TOOLKIT_CACHE": str(tmp_path)},
            cwd=Path(__file__).parents[2],
            capture_output=True,
            text=True,
            timeout=240,
            check=True,
        )
        told.append(done.stdout.split())
    (made, none, _), (needed, found, said) = told
    assert int(made) > 0 and none == "0"
    assert made == needed == found and said == "True"
