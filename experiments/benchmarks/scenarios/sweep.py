"""A notebook cell that is run again and again: one prompt, many settings of the parameters."""

from __future__ import annotations

import itertools
from typing import Any

from experiments.benchmarks.contest import (
    Contest,
    Python,
    bandwidth_note,
    compilations_note,
    made,
)
from experiments.benchmarks.engines import HUGGING_FACE, LLAMA, OURS
from experiments.benchmarks.figures import Figure, tabulate
from experiments.benchmarks.picture import of_summary
from experiments.benchmarks.report import Result
from experiments.benchmarks.rounds import Round, Value, best, ratio
from experiments.benchmarks.scenarios.samples import speed
from experiments.benchmarks.settings import Settings
from experiments.benchmarks.subject import Subject
from experiments.benchmarks.targets import Target

TOGETHER, ALONE = f"{OURS}, together", f"{OURS}, one after another"
CASE = "all"


def run(settings: Settings, subject: Subject, python: Python) -> Result:
    """Measure."""
    length = settings.pick(check=32, default=512, full=512)
    count = settings.pick(check=3, default=32, full=32)
    asked = grid()[: settings.pick(check=3, default=20, full=20)]
    engines = (OURS, HUGGING_FACE, LLAMA)
    given = {"ids": subject.prompt(length), "count": count}
    one = ({"asked": asked[:1], "count": 4},)
    whole = settings.size == "full"
    some = asked if whole else asked[: max(1, len(asked) // 2)]
    few = asked if whole else asked[: max(1, len(asked) // 6)]
    with Contest(settings, subject, python, engines=engines, context=length + count) as contest:
        for engine, way, mine, warm in (
            (OURS, "together", asked, ({}, {})),
            (OURS, "one after another", some, one),
            (HUGGING_FACE, "dynamic cache", few, one),
            (HUGGING_FACE, "static cache, compiled", few, ({"asked": asked[:1]},)),
            (LLAMA, "F32 GGUF", some, one),
        ):
            check = made(len(mine) * count)
            contest.add(
                CASE,
                engine,
                "sweep",
                variant=way,
                warm=warm,
                check=check,
                asked=mine,
                **given,
            )
        rounds = contest.play(2)
    table = tabulate(
        rounds,
        [
            Figure(key="tokens_per_second", heading="tokens/s", value=speed),
            Figure(key="seconds", heading="seconds for all", value=seconds_for(len(asked) * count)),
        ],
        ours=TOGETHER,
        case_heading="settings",
    )
    return Result(
        scenario="sweep",
        title=f"{len(asked)} settings of one prompt of {length} tokens, {count} tokens each",
        settings={**settings.facts(), **subject.facts(), "settings": len(asked)},
        left_out=contest.left_out,
        rounds=rounds,
        summary=table.summary,
        columns=table.columns[1:],
        rows=[row[1:] for row in table.rows],
        notes=[
            bandwidth_note(rounds),
            "Programs are compiled, the prompt is not computed yet. The toolkit computes it once "
            "and finds it again, and runs requests with different parameters in one batch. "
            "`generate` takes one setting a call and computes the prompt in each; "
            "llama-cpp-python keeps the prompt and runs one setting after another. What runs one "
            "after another is timed on a part of the settings.",
            compilations_note(rounds, TOGETHER),
        ],
        targets=_targets(rounds, len(asked)),
        picture=of_summary(table.summary, "seconds", axis="seconds for all settings", ours=OURS),
    )


def seconds_for(tokens: int) -> Value:
    """Seconds that a turn would have taken for all the tokens of all settings."""
    return lambda turn: turn["seconds"] * tokens / turn["made"]


def grid() -> list[dict[str, Any]]:
    """Twenty settings: temperature by top-p by seed."""
    values = itertools.product((0.3, 0.6, 0.9, 1.2, 1.5), (0.8, 0.95), (1, 2))
    return [{"temperature": t, "top_p": p, "seed": s} for t, p, s in values]


def _targets(rounds: list[Round], count: int) -> list[Target]:
    theirs = best(rounds, CASE, HUGGING_FACE, speed)
    if count != 20 or theirs is None:
        return []
    return [
        Target(
            what="20 settings of one prompt of 512 against transformers",
            least=3,
            aim=6,
            measured=ratio(rounds, CASE, TOGETHER, theirs, speed),
        )
    ]
