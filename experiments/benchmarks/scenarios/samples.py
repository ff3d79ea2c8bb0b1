"""Several samples of one prompt, with log-probabilities: the everyday request of a researcher."""

from __future__ import annotations

from experiments.benchmarks.contest import Contest, Python, bandwidth_note, made
from experiments.benchmarks.engines import HUGGING_FACE, LLAMA, OURS
from experiments.benchmarks.figures import Figure, tabulate
from experiments.benchmarks.mixes import DRAW
from experiments.benchmarks.picture import of_summary
from experiments.benchmarks.report import Result
from experiments.benchmarks.rounds import Round, Turn, best, ratio
from experiments.benchmarks.settings import Settings
from experiments.benchmarks.subject import Subject
from experiments.benchmarks.targets import Target

OURS_NAME = f"{OURS}, float32"
WAYS = {
    OURS: ("float32",),
    HUGGING_FACE: ("dynamic cache", "static cache, compiled"),
    LLAMA: ("F32 GGUF",),
}
MAIN = (16, 32)
LONG = {HUGGING_FACE: "static cache, compiled"}
"""A way that has its turn in a long run only: at 16 samples it is as fast as the other (2.95 s and
2.97 s), and each case is a program of its own, compiled for half a minute."""
IN_A_ROW = 8
"""Samples that are timed of an engine that draws one after another, unless the run is long."""


def run(settings: Settings, subject: Subject, python: Python) -> Result:
    """Measure."""
    cases = settings.pick(
        check=((2, 16),),
        default=((1, 32), (16, 32), (16, 512)),
        full=((1, 32), (4, 32), (16, 32), (1, 512), (4, 512), (16, 512), (64, 512)),
    )
    count = settings.pick(check=4, default=24, full=64)
    context = max(length for _, length in cases) + count
    with Contest(settings, subject, python, engines=tuple(WAYS), context=context) as contest:
        for n, length in cases:
            for engine, ways in WAYS.items():
                for way in ways:
                    if settings.size != "default" or _plays(engine, way, (n, length)):
                        add(contest, engine, way, n, subject.prompt(length), count)
        rounds = contest.play(3)
    table = tabulate(
        rounds,
        [Figure(key="tokens_per_second", heading="tokens/s", value=speed)],
        ours=OURS_NAME,
        case_heading="samples, prompt",
    )
    return Result(
        scenario="samples",
        title=f"Samples of one prompt: temperature 0.8, top-p 0.9, logprobs 5, {count} tokens each",
        settings={**settings.facts(), **subject.facts(), "new": count},
        left_out=contest.left_out,
        rounds=rounds,
        summary=table.summary,
        columns=table.columns,
        rows=table.rows,
        notes=[
            bandwidth_note(rounds),
            "All tokens by the whole time, the prompt's included. transformers draws with "
            "`num_return_sequences` and `output_logits`, from which log-probabilities are taken; "
            "llama-cpp-python draws one sample after another on a prompt that it keeps, with "
            "log-probabilities taken from its logits with NumPy; in a run of default size "
            f"{IN_A_ROW} of the samples.",
        ],
        targets=_targets(rounds),
        picture=of_summary(table.summary, "tokens_per_second", axis="tokens/s", ours=OURS),
    )


def _plays(engine: str, way: str, case: tuple[int, int]) -> bool:
    """Whether a way has its turn in a case of a run of default size."""
    return LONG.get(engine) != way and (engine != LLAMA or case == MAIN)


def add(contest: Contest, engine: str, way: str, n: int, prompt: list[int], count: int) -> None:
    """A contestant. What is compiled for the length of the answer warms with all of it; peers that
    compile nothing warm with one sample, and their median over the rounds is that of warm ones."""
    some = min(n, IN_A_ROW) if engine == LLAMA and contest.settings.size == "default" else n
    contest.add(
        f"{n}, {len(prompt)}",
        engine,
        "sample",
        variant=way,
        warm=({},) if way in LONG.values() else ({"count": 4, "n": n if engine == OURS else 1},),
        check=made(some * count),
        ids=prompt,
        n=some,
        count=count,
        logprobs=5,
        **DRAW,
    )


def speed(turn: Turn) -> float:
    """Tokens a second of all samples, the prompt's time included."""
    return turn["made"] / turn["seconds"]


def _targets(rounds: list[Round]) -> list[Target]:
    found = []
    for case in rounds[0]:
        if not case.startswith("16,"):
            continue
        for engine, least, aim in ((HUGGING_FACE, 1.5, 2.0), (LLAMA, 4.0, 6.0)):
            if theirs := best(rounds, case, engine, speed):
                found.append(
                    Target(
                        what=f"16 samples of a prompt of {case.split(', ')[1]} against {engine}",
                        least=least,
                        aim=aim,
                        measured=ratio(rounds, case, OURS_NAME, theirs, speed),
                        limit="sixteen rows are bound by the processor's matrix products, which "
                        "all engines do about equally fast",
                    )
                )
    return found
