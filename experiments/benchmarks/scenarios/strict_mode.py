"""Strict mode: whether a seeded request has the same bits in any company, and what that costs."""

from __future__ import annotations

import random
from typing import Any

from experiments.benchmarks.contest import Contest, Python, bandwidth_note, made
from experiments.benchmarks.engines import OURS_MODES
from experiments.benchmarks.figures import Figure, tabulate
from experiments.benchmarks.mixes import DRAW, random_request
from experiments.benchmarks.picture import of_summary, scaled
from experiments.benchmarks.report import Result
from experiments.benchmarks.rounds import Round, Spread, ratio
from experiments.benchmarks.scenarios.decode_batch1 import speed
from experiments.benchmarks.settings import Settings
from experiments.benchmarks.subject import Subject
from experiments.benchmarks.targets import Target

DEFAULT, STRICT = f"{OURS_MODES}, default mode", f"{OURS_MODES}, strict mode"
COMPANIES = (2, 8, 16)


def run(settings: Settings, subject: Subject, python: Python) -> Result:
    """Measure."""
    sizes = settings.pick(
        check={1: 4, 2: 4},
        default={1: 32, 2: 24, 8: 16, 16: 12},
        full={1: 64, 2: 64, 8: 64, 16: 64},
    )
    requests = settings.pick(check=2, default=32, full=64)
    rng, vocabulary = random.Random(3), 1 + max(subject.corpus)
    asked = [random_request(rng, vocabulary, most=16) for _ in range(requests)]
    prompt = subject.prompt(32)
    with Contest(settings, subject, python, engines=(OURS_MODES,)) as contest:
        promise = contest.workers[OURS_MODES].ask(
            "reproduce", requests=asked, companies=list(COMPANIES)
        )
        for rows, count in sizes.items():
            for mode in contest.variants(OURS_MODES):
                contest.add(
                    str(rows),
                    OURS_MODES,
                    "decode",
                    variant=mode,
                    warm=({"count": 4},),
                    check=made(rows * count),
                    ids=prompt,
                    count=count,
                    rows=rows,
                    **DRAW,
                )
        rounds = contest.play(5)
    table = tabulate(
        rounds,
        [Figure(key="tokens_per_second", heading="tokens/s", value=speed)],
        ours=DEFAULT,
        case_heading="rows",
        compared="default / strict",
    )
    return Result(
        scenario="strict_mode",
        title="Strict mode: the same bits in any company, and the price",
        settings={**settings.facts(), **subject.facts(), "requests": requests},
        rounds=rounds,
        summary={"promise": promise, **table.summary},
        columns=table.columns,
        rows=table.rows,
        notes=[
            bandwidth_note(rounds),
            f"{promise['equal']} of {promise['of']} runs of seeded requests with random "
            f"parameters, among {', '.join(map(str, COMPANIES))} requests, gave the tokens, "
            "log-probabilities and everything else about them that the request gave alone, bit by "
            "bit."
            + (
                f" Where they did not: {', '.join(promise['differing'])}."
                * bool(promise["differing"])
            ),
            "Both modes have their turns in one process. With the compiled kernels they run the "
            "same programs. Without them a lone sequence runs in a batch of two rows in strict "
            "mode.",
        ],
        targets=[_promise(promise), *(_price(rounds, case) for case in rounds[0])],
        picture=of_summary(table.summary, "tokens_per_second", axis="tokens/s", ours=STRICT),
    )


def _promise(promise: dict[str, Any]) -> Target:
    return Target(
        what="seeded requests equal to their solo run in strict mode",
        least=100,
        aim=100,
        measured=Spread.of([100 * promise["equal"] / promise["of"]]),
        unit=" %",
        digits=1,
    )


def _price(rounds: list[Round], case: str) -> Target:
    over = ratio(rounds, case, DEFAULT, STRICT, speed)
    price = Spread.of(value - 1 for value in (over.low, over.median, over.high))
    return Target(
        what=f"price of strict mode at {case} {'row' if case == '1' else 'rows'}",
        least=15,
        aim=5,
        measured=scaled(price, 100),
        unit=" %",
        digits=0,
        smaller=True,
        limit="without the compiled kernels a lone row runs in a batch of two",
    )
