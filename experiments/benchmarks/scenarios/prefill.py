"""Time to the first token of one request, by the length of its prompt."""

from __future__ import annotations

from experiments.benchmarks.contest import Contest, Python, bandwidth_note, made
from experiments.benchmarks.engines import HUGGING_FACE, LLAMA, OURS
from experiments.benchmarks.figures import Figure, tabulate
from experiments.benchmarks.picture import of_summary
from experiments.benchmarks.report import Result
from experiments.benchmarks.rounds import Turn
from experiments.benchmarks.settings import Settings
from experiments.benchmarks.subject import Subject

WAYS = {OURS: "float32", HUGGING_FACE: "dynamic cache", LLAMA: "F32 GGUF"}


def run(settings: Settings, subject: Subject, python: Python) -> Result:
    """Measure."""
    lengths = settings.pick(
        check=(16, 40), default=(32, 128, 512, 1024), full=(32, 128, 256, 512, 1024, 2048)
    )
    context = max(lengths) + 8
    with Contest(settings, subject, python, engines=tuple(WAYS), context=context) as contest:
        for length in lengths:
            for engine, way in WAYS.items():
                contest.add(
                    str(length),
                    engine,
                    "decode",
                    variant=way,
                    check=made(1),
                    ids=subject.prompt(length),
                    count=1,
                )
        rounds = contest.play(3)
    for turns in rounds:
        for case, contestants in turns.items():
            for turn in contestants.values():
                turn["length"] = int(case)
    table = tabulate(
        rounds,
        [
            Figure(key="tokens_per_second", heading="prompt tokens/s", value=speed, digits=0),
            Figure(
                key="seconds",
                heading="first token, ms",
                value=lambda turn: turn["seconds"],
                digits=0,
                scale=1e3,
            ),
        ],
        ours=f"{OURS}, float32",
        case_heading="prompt",
    )
    return Result(
        scenario="prefill",
        title="Time to the first token",
        settings={**settings.facts(), **subject.facts(), "lengths": lengths},
        left_out=contest.left_out,
        rounds=rounds,
        summary=table.summary,
        columns=table.columns,
        rows=table.rows,
        notes=[
            bandwidth_note(rounds),
            "A request for one token on an idle engine whose programs are compiled, from the call "
            "to the answer; no part of the prompt was computed before.",
        ],
        picture=of_summary(table.summary, "tokens_per_second", axis="prompt tokens/s", ours=OURS),
    )


def speed(turn: Turn) -> float:
    """Prompt tokens a second, the draw of the first token included."""
    return turn["length"] / turn["seconds"]
