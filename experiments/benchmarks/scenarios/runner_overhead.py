"""What the experiment runner costs: cells recorded by it, and the same requests asked bare."""

from __future__ import annotations

import itertools
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import toolkit
from experiments.benchmarks.contest import Python
from experiments.benchmarks.report import Result
from experiments.benchmarks.rounds import Spread, Turn, interleave, spread
from experiments.benchmarks.settings import Settings
from experiments.benchmarks.subject import Subject
from experiments.benchmarks.targets import Target
from toolkit.completion.complete import LM

CASE, BARE, RUNNER = "cells", "bare engine", "runner"
ROWS = 16
PROMPTS = ("Once upon a time", "The sea is", "In the city", "A recipe for")
FIXED: dict[str, Any] = {"max_tokens": 32, "logprobs": 5, "details": True, "temperature": 0.8}


def run(settings: Settings, subject: Subject, python: Python) -> Result:
    """Measure, in this process: a run's frames and its folder are part of its time."""
    seeds = range(settings.pick(check=2, default=24, full=96))
    with (
        tempfile.TemporaryDirectory() as folder,
        toolkit.load(subject.folder, max_batch=ROWS, strict=True) as lm,
    ):
        places = (Path(folder) / str(number) for number in itertools.count())
        contestants = {
            BARE: lambda: timed(lm, lambda: ask(lm, seeds)),
            RUNNER: lambda: timed(lm, lambda: record(lm, seeds, next(places))),
        }
        for warm in contestants.values():
            warm()
        rounds = interleave({CASE: contestants}, settings.turns(3), lambda name, error: False)
    overhead = Spread.of(
        100 * (turns[CASE][RUNNER]["seconds"] / turns[CASE][BARE]["seconds"] - 1)
        for turns in rounds
    )
    times = {name: spread(rounds, CASE, name, seconds) for name in (BARE, RUNNER)}
    cells = len(PROMPTS) * len(seeds)
    return Result(
        scenario="runner_overhead",
        title=f"The experiment runner over the bare engine, {cells} cells of 32 tokens",
        settings={**settings.facts(), **subject.facts(), "cells": cells, "rows": ROWS},
        rounds=rounds,
        summary={**times, "overhead": overhead},
        columns=("who asks", "seconds"),
        rows=[[name, found.show(2)] for name, found in times.items()],
        notes=[
            f"Both ask the same requests of one engine, strict, {ROWS} rows at a time, with "
            "log-probabilities and details. The runner plans the cells, notes each answer on the "
            "disk and writes the frames; the bare engine's answers are dropped.",
        ],
        targets=[
            Target(
                what="what the runner takes beyond the bare engine",
                least=3,
                aim=1,
                measured=overhead,
                unit=" %",
                digits=1,
                smaller=True,
                limit="frames are written after the last cell, while the engine rests",
            )
        ]
        if settings.size != "check"
        else [],
    )


def ask(lm: LM, seeds: range) -> None:
    """Every request by itself, as many in flight as the runner has."""
    with ThreadPoolExecutor(2 * ROWS) as threads:
        pairs = itertools.product(PROMPTS, seeds)
        list(threads.map(lambda p: lm.complete(p[0], seed=p[1], **FIXED), pairs))


def record(lm: LM, seeds: range, out: Path) -> None:
    """The same as a run in a folder of its own."""
    toolkit.sweep(lm, list(PROMPTS), seeds=seeds, out=out, progress=False, **FIXED)


def timed(lm: LM, work: Any) -> Turn:
    """One turn, from an engine that has no prompts stored."""
    lm.engine.forget_prompts()
    began = time.perf_counter()
    work()
    return {"seconds": time.perf_counter() - began}


def seconds(turn: Turn) -> float:
    """The time of a turn."""
    return turn["seconds"]
