"""Requests of mixed lengths that arrive together: continuous batching against static batches."""

from __future__ import annotations

import random

from experiments.benchmarks.contest import (
    Contest,
    Python,
    bandwidth_note,
    compilations_note,
    made,
)
from experiments.benchmarks.engines import HUGGING_FACE, LLAMA, OURS
from experiments.benchmarks.figures import Figure, tabulate
from experiments.benchmarks.mixes import random_lengths
from experiments.benchmarks.picture import of_summary
from experiments.benchmarks.report import Result
from experiments.benchmarks.rounds import Round, best, ratio
from experiments.benchmarks.scenarios.samples import speed
from experiments.benchmarks.settings import Settings
from experiments.benchmarks.subject import Subject
from experiments.benchmarks.targets import Target

CASE = "all"
OURS_NAME = f"{OURS}, float32"
BLIND = ("dynamic cache, by prompt, rows 32",)
"""Static batching that knows of a request what it says: its prompt. 16 rows are
slower (76 against 80 tokens/s)."""
FORESEEING = ("dynamic cache, by answer, rows 16",)
"""And one that knows how long each answer will be, up to an eighth faster. In a long run only."""


def run(settings: Settings, subject: Subject, python: Python) -> Result:
    """Measure."""
    count = settings.pick(check=4, default=64, full=256)
    new = settings.pick(check=4, default=16, full=64)
    lengths = random_lengths(random.Random(5), count, prompt=2 * new, new=new)
    prompts = subject.prompts([prompt for prompt, _ in lengths])
    requests = [[ids, n] for ids, (_, n) in zip(prompts, lengths, strict=True)]
    total = sum(n for _, n in lengths)
    engines = (OURS, HUGGING_FACE) if settings.size == "default" else (OURS, HUGGING_FACE, LLAMA)
    with Contest(settings, subject, python, engines=engines, context=1024) as contest:
        few, usual = requests[:2], 1 + len(BLIND)
        ways = [
            (OURS, "float32", ({},) * 3),
            *((HUGGING_FACE, way, ({"requests": few},)) for way in (*BLIND, *FORESEEING)),
            (LLAMA, "F32 GGUF", ({"requests": few[:1]},)),
        ]
        for engine, way, warm in ways[:usual] if settings.size == "default" else ways:
            contest.add(
                CASE,
                engine,
                "requests",
                variant=way,
                warm=warm,
                check=made(total),
                requests=requests,
            )
        rounds = contest.play(2)
    table = tabulate(
        rounds,
        [
            Figure(key="tokens_per_second", heading="tokens/s", value=speed),
            Figure(key="seconds", heading="seconds", value=lambda turn: turn["seconds"]),
        ],
        ours=OURS_NAME,
        case_heading="requests",
    )
    longest = max(n for _, n in lengths)
    return Result(
        scenario="arrivals",
        title=f"{count} requests of mixed lengths that arrive together",
        settings={**settings.facts(), **subject.facts(), "requests": count, "tokens": total},
        left_out=contest.left_out,
        rounds=rounds,
        summary=table.summary,
        columns=table.columns[1:],
        rows=[row[1:] for row in table.rows],
        notes=[
            bandwidth_note(rounds),
            f"Prompts of {min(map(len, prompts))} to {max(map(len, prompts))} tokens; answers of 4 "
            f"to {longest}, {total} in all, log-normal; greedy. Only tokens that were asked for "
            "count.",
            "transformers runs static batches, padded on the left, each until its longest answer "
            "is there. By prompt: sorted by the length of the prompt, which is known; the target "
            "is against these. By answer (long runs): sorted by the length of the answer, which "
            "only a trial run tells, so that little is wasted: the best case there could be.",
            compilations_note(rounds, OURS_NAME),
        ],
        targets=_targets(rounds, count),
        picture=of_summary(table.summary, "tokens_per_second", axis="tokens/s", ours=OURS),
    )


def _targets(rounds: list[Round], count: int) -> list[Target]:
    theirs = best(rounds, CASE, f"{HUGGING_FACE}, {BLIND[0].rsplit(' ', 1)[0]}", speed)
    if count != 64 or theirs is None:
        return []
    return [
        Target(
            what="64 requests of mixed lengths against transformers in static batches",
            least=2,
            aim=3,
            measured=ratio(rounds, CASE, OURS_NAME, theirs, speed),
            limit="with many rows the processor's matrix products are the bound",
        )
    ]
