"""The sampler's share of a decode step, on the device: the step, and the network alone."""

from __future__ import annotations

from experiments.benchmarks.contest import Contest, Python, bandwidth_note
from experiments.benchmarks.engines import OURS_PARTS
from experiments.benchmarks.mixes import MIXES, NEUTRAL_TO
from experiments.benchmarks.picture import Picture, scaled
from experiments.benchmarks.report import Result
from experiments.benchmarks.rounds import Turn, spread
from experiments.benchmarks.settings import Settings
from experiments.benchmarks.subject import Subject
from experiments.benchmarks.targets import Target

SLOTS = 256


def run(settings: Settings, subject: Subject, python: Python) -> Result:
    """Measure."""
    rows = settings.pick(check=4, default=64, full=64)
    steps = settings.pick(check=2, default=5, full=15)
    case = f"{rows} rows"
    mixes = {name: asked for name, asked in MIXES.items() if name not in NEUTRAL_TO}
    with Contest(settings, subject, python, engines=(OURS_PARTS,)) as contest:
        contest.workers[OURS_PARTS].ask("prepare", mixes=mixes, rows=rows, slots=SLOTS)
        for mix in mixes:
            contest.add(case, OURS_PARTS, "part", variant=mix, warm=(), steps=steps)
        rounds = contest.play(3)
    summary = {
        mix: {
            "step_seconds": spread(rounds, case, f"{OURS_PARTS}, {mix}", lambda t: t["step"]),
            "sampler_seconds": spread(rounds, case, f"{OURS_PARTS}, {mix}", sampler),
            "share": spread(rounds, case, f"{OURS_PARTS}, {mix}", share),
        }
        for mix in mixes
    }
    worst = max(summary, key=lambda mix: summary[mix]["share"].median)
    percent = scaled(summary[worst]["share"], 100)
    return Result(
        scenario="sampler_share",
        title=f"The sampler's share of a step of {rows} rows",
        settings={**settings.facts(), **subject.facts(), "rows": rows, "slots": SLOTS},
        rounds=rounds,
        summary=summary,
        columns=("parameters", "step, ms", "of which sampler, ms", "share"),
        rows=[
            [
                mix,
                found["step_seconds"].show(0, scale=1e3),
                found["sampler_seconds"].show(1, scale=1e3),
                found["share"].show(1, unit=" %", scale=100),
            ]
            for mix, found in summary.items()
        ],
        notes=[
            bandwidth_note(rounds),
            "Steps of a mix, each between two of the same network without a draw; the sampler is "
            "the median difference. All that is reported of a token is in it. Below the noise of "
            "two timings a share can come out negative.",
        ],
        targets=[
            Target(
                what=f"sampler's share of a step of {rows} rows, the dearest mix ({worst})",
                least=10,
                aim=5,
                measured=percent,
                unit=" %",
                digits=1,
                smaller=True,
                limit="a stage reads all logits of all rows at least once, and on CPU XLA does not "
                "spread every such pass over the cores",
            )
        ]
        if rows == 64
        else [],
        picture=Picture(
            axis="share of the step, %",
            bars={case: {mix: scaled(found["share"], 100) for mix, found in summary.items()}},
            ours="",
            line=10.0,
        ),
    )


def sampler(turn: Turn) -> float:
    """Seconds of a step that the network does not need."""
    return turn["step"] - turn["network"]


def share(turn: Turn) -> float:
    """Of the step."""
    return sampler(turn) / turn["step"]
