"""One layer's attention on an accelerator by each back end: which is faster for which call."""

from __future__ import annotations

import dataclasses
from typing import Any

from experiments.benchmarks.contest import Python
from experiments.benchmarks.engines import DEVICE, MODULES
from experiments.benchmarks.picture import Picture, scaled
from experiments.benchmarks.process import Process
from experiments.benchmarks.report import Result
from experiments.benchmarks.rounds import Round, Spread, Turn
from experiments.benchmarks.settings import Settings
from experiments.benchmarks.shapes import LARGE, TINY, Shape

CALLS = ((1, 128, 128), (1, 512, 512), (1, 512, 4096), (4, 128, 128), (1, 1, 1024), (64, 1, 1024))
"""Rows, queries of each, slots of the cache. One query is a step of decoding."""
TINY_CALLS = ((1, 8, 16), (2, 1, 16))
PASSES = 3


def run(settings: Settings, subject: Any, python: Python) -> Result:
    """Measure. `subject` is not used: the numbers are random."""
    shapes = TINY if settings.tiny else LARGE
    calls = TINY_CALLS if settings.tiny else CALLS
    found: dict[str, list[Turn]] = {}
    device = "unknown"
    for shape in shapes:
        with Process(MODULES[DEVICE], python[DEVICE], **_slim(shape).facts()) as worker:
            device = worker.ask("about")["device"]
            for rows, queries, slots in calls:
                asked = {"rows": rows, "queries": queries, "slots": slots}
                turns = [worker.ask("attention", **asked) for _ in range(settings.turns(PASSES))]
                found[f"{shape.name}: {rows} x {queries} of {slots}"] = turns
    rounds: list[Round] = [
        {case: {DEVICE: turn} for case, turn in zip(found, turns, strict=True)}
        for turns in zip(*found.values(), strict=True)
    ]
    times = {
        case: {name: _seconds(t, name) for name in t[0]["seconds"]} for case, t in found.items()
    }
    return Result(
        scenario="gpu_attention",
        title=f"Attention of one layer on {device}",
        settings={**settings.facts(), "device": device},
        left_out={},
        rounds=rounds,
        summary=times,
        columns=("rows x queries of slots", "products, ms", "fused, ms", "ratio", "taken", "gap"),
        rows=[_row(case, turns, times[case]) for case, turns in found.items()],
        notes=[
            "Products: two products in float32 and a softmax between them. Fused: "
            "`jax.nn.dot_product_attention`, which on CUDA is cuDNN's kernel.",
            "Taken: what the toolkit takes for such a call. Where the other one is faster in all "
            "rounds, `FUSED_FROM` in `toolkit/models/attention.py` wants another value.",
            "The gap is the largest difference of a number between the two.",
        ],
        targets=[],
        picture=Picture(
            axis="ms",
            bars={
                case: {name: scaled(spread, 1e3) for name, spread in by.items()}
                for case, by in times.items()
            },
            ours="fused",
        ),
    )


def _slim(shape: Shape) -> Shape:
    """The same attention without the rest: one layer, few ids, a narrow residual."""
    less = {"layers": 1, "kinds": (), "vocab_size": 64, "width": 64, "mlp_width": 64}
    return dataclasses.replace(shape, sizes={**shape.sizes, **less})


def _seconds(turns: list[Turn], name: str) -> Spread:
    return Spread.of(turn["seconds"][name] for turn in turns)


def _row(case: str, turns: list[Turn], times: dict[str, Spread]) -> list[str]:
    ratio = Spread.of(t["seconds"]["products"] / t["seconds"]["fused"] for t in turns)
    return [
        case,
        times["products"].show(3, scale=1e3),
        times["fused"].show(3, scale=1e3),
        ratio.show(2),
        turns[0]["taken"],
        f"{max(turn['gap'] for turn in turns):.0e}",
    ]
