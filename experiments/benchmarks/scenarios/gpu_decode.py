"""Decoding on an accelerator: large shapes with random weights that are made on the device.

Each engine is loaded alone, since one fills the device; its batches follow one another. Beside the
tokens a second stand the parts of a step and the least that any step can cost.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from experiments.benchmarks.contest import FOLDERS, Python
from experiments.benchmarks.engines import DEVICE, HUGGING_FACE_DEVICE, MODULES
from experiments.benchmarks.picture import Picture
from experiments.benchmarks.process import EngineFailed, Process
from experiments.benchmarks.report import Result
from experiments.benchmarks.rounds import Round, Spread, Turn
from experiments.benchmarks.settings import Settings
from experiments.benchmarks.shapes import LARGE, TINY, Shape
from experiments.benchmarks.targets import Target

PASSES = 3
LIMIT = (
    "the table's parts say where the step goes: products are those with all weights alone, the "
    "rest of the network is attention and what lies between the products"
)
Found = dict[str, dict[str, list[Turn]]]
"""By shape and rows, then by engine."""


def run(settings: Settings, subject: Any, python: Python) -> Result:
    """Measure. `subject` is not used: the weights are random."""
    shapes = TINY if settings.tiny else LARGE
    passes = settings.turns(PASSES)
    left_out: dict[str, str] = {}
    found: Found = {}
    device = "unknown"
    for shape in shapes:
        for engine in (DEVICE, HUGGING_FACE_DEVICE):
            label = f"{engine}, {shape.name}"
            print(f"loading {label}", flush=True)
            try:
                with Process(MODULES[engine], python[engine], **shape.facts()) as worker:
                    device = worker.ask("about")["device"]
                    _batches(worker, engine, shape, passes, found, left_out)
            except EngineFailed as error:
                if engine == DEVICE:
                    raise
                left_out[label] = FOLDERS.sub("", str(error))
    if not any(DEVICE in by for by in found.values()):
        raise EngineFailed(f"no batch of the toolkit's ran: {left_out}")
    return Result(
        scenario="gpu_decode",
        title=f"Decoding on {device}",
        settings={**settings.facts(), "device": device},
        left_out=left_out,
        rounds=_rounds(found),
        summary={case: _summary(turns) for case, turns in found.items()},
        columns=(
            "shape, rows",
            "engine",
            "tokens/s",
            "step, ms",
            "share of read bandwidth",
            "products, ms",
            "rest of the network, ms",
            "sampler, dearest mix",
        ),
        rows=[_row(case, name, turns) for case, by in found.items() for name, turns in by.items()],
        notes=_notes(shapes),
        targets=[] if settings.tiny else _targets(shapes, found),
        picture=Picture(
            axis="tokens/s",
            bars={case: {n: _speed(t) for n, t in by.items()} for case, by in found.items()},
            ours=DEVICE,
        ),
    )


def _batches(
    worker: Process,
    engine: str,
    shape: Shape,
    passes: int,
    found: Found,
    left_out: dict[str, str],
) -> None:
    """All batch sizes of one engine; a batch that does not fit is left out."""
    for rows in shape.batches:
        case = f"{shape.name}, {rows}"
        print(f"{case}: {engine}", flush=True)
        asked = {"rows": rows, "context": shape.context, "count": shape.count}
        try:
            _, *turns = [worker.ask("decode", **asked) for _ in range(1 + passes)]
            if engine == DEVICE:
                parts = worker.ask("parts", rows=rows, context=shape.context)
                turns = [{**turn, **parts} for turn in turns]
            found.setdefault(case, {})[engine] = turns
        except EngineFailed as error:
            left_out[f"{engine}, {case}"] = FOLDERS.sub("", str(error))
            print(f"left out: {engine}, {case}: {error}", flush=True)


def _rounds(found: Found) -> list[Round]:
    """The turns in the form of all scenarios."""
    count = min((len(t) for by in found.values() for t in by.values()), default=0)
    return [
        {case: {name: turns[i] for name, turns in by.items()} for case, by in found.items()}
        for i in range(count)
    ]


def _speed(turns: list[Turn]) -> Spread:
    """Tokens a second of all rows, after the first token."""
    return Spread.of(1 / seconds for seconds in map(_a_token, turns))


def _step(turns: list[Turn]) -> Spread:
    """Seconds of a step."""
    return Spread.of(turn["rows"] * _a_token(turn) for turn in turns)


def _a_token(turn: Turn) -> float:
    return turn["decoding"] / (turn["made"] - turn["rows"])


def _summary(by: Mapping[str, list[Turn]]) -> dict[str, Any]:
    return {name: {"tokens_per_second": _speed(t), "step": _step(t)} for name, t in by.items()}


def _row(case: str, name: str, turns: list[Turn]) -> list[str]:
    step, first = _step(turns), turns[0]
    cells = [case, name, _speed(turns).show(0), step.show(2, scale=1e3)]
    if "products" not in first:
        return [*cells, "", "", "", ""]
    share = first["bytes"] / first["bandwidth"] / step.median
    worst = max(first["steps"], key=first["steps"].__getitem__)
    sampler = first["steps"][worst] - first["network"]
    return [
        *cells,
        f"{100 * share:.0f} %",
        f"{1e3 * first['products']:.2f}",
        f"{1e3 * (first['network'] - first['products']):.2f}",
        f"{1e3 * sampler:.2f} ms, {100 * sampler / first['steps'][worst]:.0f} % ({worst})",
    ]


def _notes(shapes: tuple[Shape, ...]) -> list[str]:
    lengths = "; ".join(f"{s.name}: {s.count} after {s.context - s.count}" for s in shapes)
    return [
        f"Random weights, made on the device. New tokens in each row after those of the prompt, "
        f"which all rows share: {lengths}. Each row has a seed of its own; temperature 0.8.",
        "Tokens a second are those of the whole engine, after the first token of the last row. "
        "Bytes of a step are the weights and a full cache; the bandwidth is that of a sum over a "
        "large array in the same process. The parts are timed on the device without the engine.",
        "transformers runs `generate` with a static cache, which compiles its step.",
    ]


def _targets(shapes: tuple[Shape, ...], found: Found) -> list[Target]:
    """Tokens a second that were set for an H100."""
    return [
        Target(
            what=f"{shape.name} at {rows}, tokens/s, set for an H100",
            least=least,
            aim=aim,
            measured=_speed(turns),
            unit="",
            digits=0,
            limit=LIMIT,
        )
        for shape in shapes
        for rows, (least, aim) in shape.targets.items()
        if (turns := found.get(f"{shape.name}, {rows}", {}).get(DEVICE))
    ]
