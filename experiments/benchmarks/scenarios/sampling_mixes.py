"""What parameters cost: the same rows under several mixes, over the same rows greedily."""

from __future__ import annotations

from experiments.benchmarks.contest import Contest, Python, bandwidth_note, made
from experiments.benchmarks.engines import OURS
from experiments.benchmarks.mixes import MIXES
from experiments.benchmarks.picture import Picture
from experiments.benchmarks.report import Result
from experiments.benchmarks.rounds import Round, Spread, Turn, spread
from experiments.benchmarks.settings import Settings
from experiments.benchmarks.subject import Subject

GREEDY, PLAIN = "greedy", "top-p 0.9"


def run(settings: Settings, subject: Subject, python: Python) -> Result:
    """Measure."""
    sizes = settings.pick(check={2: 4}, default={1: 24, 16: 12}, full={1: 64, 16: 32, 64: 16})
    prompt = subject.prompt(32)
    with Contest(settings, subject, python, engines=(OURS,)) as contest:
        for rows, count in sizes.items():
            for mix, asked in MIXES.items():
                contest.add(
                    f"{rows} rows",
                    OURS,
                    "decode",
                    variant=mix,
                    warm=({"count": 3},),
                    check=made(rows * count),
                    ids=prompt,
                    count=count,
                    rows=rows,
                    **asked,
                )
        rounds = contest.play(2)
    summary = {
        case: {
            mix: {
                "milliseconds": spread(rounds, case, f"{OURS}, {mix}", step),
                "over_greedy": over(rounds, case, mix, GREEDY),
                "over_top_p": over(rounds, case, mix, PLAIN),
            }
            for mix in MIXES
        }
        for case in rounds[0]
    }
    return Result(
        scenario="sampling_mixes",
        title="The price of parameters, through the whole engine",
        settings={**settings.facts(), **subject.facts(), "new": sizes},
        left_out=contest.left_out,
        rounds=rounds,
        summary=summary,
        columns=("rows", "parameters", "ms a step", "over greedy", "over top-p"),
        rows=[
            [
                case.removesuffix(" rows"),
                mix,
                found["milliseconds"].show(1),
                found["over_greedy"].show(2),
                found["over_top_p"].show(2),
            ]
            for case, mixes in summary.items()
            for mix, found in mixes.items()
        ],
        notes=[
            bandwidth_note(rounds),
            "A step is the time after the first token by the number of steps; text, records and "
            "the way from the device to Python are in it.",
        ],
        picture=Picture(
            axis="step time over a greedy step",
            bars={
                case: {mix: found["over_greedy"] for mix, found in mixes.items()}
                for case, mixes in summary.items()
            },
            ours="",
            line=1.0,
        ),
    )


def step(turn: Turn) -> float:
    """Milliseconds of a step, after the first token."""
    return 1e3 * (turn["seconds"] - turn["first"]) / (len(turn["tokens"]) - 1)


def over(rounds: list[Round], case: str, mix: str, other: str) -> Spread:
    """Step time of a mix over that of another one, round by round."""
    return Spread.of(
        step(turns[case][f"{OURS}, {mix}"]) / step(turns[case][f"{OURS}, {other}"])
        for turns in rounds
    )
