"""Whether requests that differ in everything compile anything once the engine is warm."""

from __future__ import annotations

import random
from typing import Any

from experiments.benchmarks.contest import Contest, Python
from experiments.benchmarks.engines import OURS
from experiments.benchmarks.mixes import random_request
from experiments.benchmarks.report import Result
from experiments.benchmarks.rounds import Spread, spread
from experiments.benchmarks.settings import Settings
from experiments.benchmarks.subject import Subject
from experiments.benchmarks.targets import Target

CASE, MOST = "all", 8
"""At most this many requests arrive together."""

ROWS, TOKENS = 4 * MOST, 128
"""Sizes that the engine is warmed up for: a request has up to 4 candidates of up to 104 tokens."""


def run(settings: Settings, subject: Subject, python: Python) -> Result:
    """Measure."""
    count = settings.pick(check=6, default=200, full=1000)
    vocabulary = 1 + max(subject.corpus)
    with Contest(settings, subject, python, engines=(OURS,)) as contest:
        warmed = contest.workers[OURS].ask("warm_up", rows=ROWS, tokens=TOKENS)
        contest.add(CASE, OURS, "mixture", warm=(), groups=groups(2, count, vocabulary))
        rounds = contest.play(1)
    (turn,) = (turns[CASE][OURS] for turns in rounds[:1])
    compiled = Spread.of([turn["compiled"]])
    return Result(
        scenario="recompilations",
        title=f"Compilations during {count} random requests after warm-up",
        settings={**settings.facts(), **subject.facts(), "requests": count},
        rounds=rounds,
        summary={
            "compiled": compiled,
            "programs": turn["programs"],
            "seconds": spread(rounds, CASE, OURS, lambda t: t["seconds"]),
        },
        columns=("requests", "tokens", "seconds", "programs compiled"),
        rows=[
            [
                str(count),
                str(turn["made"]),
                f"{turn['seconds']:.0f}",
                ", ".join(turn["programs"]) or "none",
            ]
        ],
        notes=[
            f"Prompts, parameters, `n`, seeds and lengths are random; 1 to {MOST} requests arrive "
            f"together. Before them came `lm.warm_up(rows={ROWS}, tokens={TOKENS})`: "
            f"{warmed['programs']} programs in {warmed['seconds']:.0f} s, {warmed['read']} of them "
            "found on disk.",
        ],
        targets=[
            Target(
                what=f"compilations during {count} random requests after warm-up",
                least=0,
                aim=0,
                measured=compiled,
                unit="",
                digits=0,
                smaller=True,
                limit="a size came up that the warm-up had not foreseen",
            )
        ]
        if settings.size != "check"
        else [],
    )


def groups(seed: int, count: int, vocabulary: int) -> list[list[dict[str, Any]]]:
    """Random requests in groups that arrive together."""
    rng, made = random.Random(seed), []
    while (left := count - sum(map(len, made))) > 0:
        size = min(left, rng.randint(1, MOST))
        made.append([random_request(rng, vocabulary, most=4) for _ in range(size)])
    return made
