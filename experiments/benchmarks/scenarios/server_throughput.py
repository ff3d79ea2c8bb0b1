"""Many clients at one server, over HTTP: tokens a second, and how soon a stream begins.

Every client asks for one greedy answer in each round, all at the same time, with the same body at
each server. Prompts differ between clients and rounds.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import Any

from experiments.benchmarks.contest import Contest, Python, bandwidth_note
from experiments.benchmarks.engines import OURS, SERVED, SERVED_HF, SERVED_LLAMA
from experiments.benchmarks.figures import Figure, tabulate
from experiments.benchmarks.picture import Picture
from experiments.benchmarks.process import EngineFailed
from experiments.benchmarks.report import Result
from experiments.benchmarks.rounds import Round, Turn, ratio
from experiments.benchmarks.settings import Settings
from experiments.benchmarks.subject import Subject
from experiments.benchmarks.targets import Target

SERVERS = (SERVED, SERVED_LLAMA, SERVED_HF)
AIMS = {SERVED_LLAMA: (4.0, 6.0), SERVED_HF: (2.0, 4.0)}
"""Our tokens a second over theirs: at least, and aimed at."""
PROMPT = 48
"""Tokens of a prompt before it is decoded to text."""
WARM = 2
"""Unmeasured turns of each server."""
FEW = 0.9
"""Share of the tokens asked for that must be made: an answer may end early."""


def run(settings: Settings, subject: Subject, python: Python) -> Result:
    """Measure."""
    clients = settings.pick(check=2, default=16, full=16)
    count = settings.pick(check=4, default=32, full=64)
    texts = _texts(subject)
    turns = WARM + settings.turns(3)
    crowds = [list(itertools.islice(texts, clients)) for _ in range(turns)]
    singles = [[next(texts)] for _ in range(turns)]
    case, idle = f"{clients} clients", "one stream, idle"
    with Contest(
        settings, subject, python, engines=(OURS, *SERVERS), context=PROMPT + count + 64
    ) as contest:
        for name in SERVERS:
            contest.add(
                case,
                name,
                "together",
                # As long as what is measured where lengths decide what is compiled.
                warm=[{"repeat": WARM, "count": count if name == SERVED else 2}],
                check=_enough(clients * count),
                prompts=crowds,
                count=count,
            )
        _add_first_byte(contest, subject, idle, singles)
        rounds = contest.play(3)
        left_out = contest.left_out
    return _result(settings, subject, rounds, case, idle, count, left_out)


def _add_first_byte(
    contest: Contest, subject: Subject, case: str, prompts: Sequence[list[str]]
) -> None:
    """The stream of the idle server, and the same work without HTTP: one prompt, one token."""
    contest.add(case, SERVED, "first_byte", warm=[{}] * WARM, prompts=prompts, count=8)
    ids = subject.prompt(PROMPT)
    contest.add(case, OURS, "decode", warm=[{}] * WARM, ids=ids, count=1)


def _texts(subject: Subject) -> Iterator[str]:
    """Stretches of the corpus, one after another."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(subject.folder / "tokenizer.json"))
    ids = itertools.cycle(subject.corpus)
    while True:
        yield tokenizer.decode(list(itertools.islice(ids, PROMPT)))


def _enough(count: int) -> Any:
    def check(turn: Turn) -> None:
        if not FEW * count <= turn["made"] <= count:
            raise EngineFailed(f"{turn['made']} tokens were made instead of {count}")

    return check


def speed(turn: Turn) -> float:
    """Tokens a second, prompts and HTTP included."""
    return turn["made"] / turn["seconds"]


def _agreement(rounds: Sequence[Round], case: str, one: str, other: str) -> str:
    """How many answers of two servers are the same text."""
    pairs = [
        pair
        for turns in rounds
        for pair in zip(turns[case][one]["texts"], turns[case][other]["texts"], strict=True)
    ]
    same = sum(a == b for a, b in pairs)
    return f"{same} of {len(pairs)} answers are the same text from {one} and {other}."


def _result(
    settings: Settings,
    subject: Subject,
    rounds: list[Round],
    case: str,
    idle: str,
    count: int,
    left_out: dict[str, str],
) -> Result:
    played = [name for name in SERVERS if name in rounds[0][case]]
    agreement = [_agreement(rounds, case, SERVED, name) for name in played if name != SERVED]
    for turns in rounds:
        for turn in turns[case].values():
            del turn["texts"]
    figures = [
        Figure(key="tokens_per_second", heading="tokens/s", value=speed),
        Figure(key="seconds", heading="until all have answered, s", value=lambda t: t["seconds"]),
    ]
    table = tabulate(
        [{case: turns[case]} for turns in rounds], figures, ours=SERVED, case_heading="load"
    )
    targets = [
        Target(
            what=f"tokens/s over {name}",
            least=least,
            aim=aim,
            measured=ratio(rounds, case, SERVED, name, speed),
            limit="the batch is computed on as many cores as one sequence of the others",
        )
        for name, (least, aim) in AIMS.items()
        if name in played
    ]
    return Result(
        scenario="server_throughput",
        title=f"{case.capitalize()} at a server, float32: {count} tokens each",
        settings={**settings.facts(), **subject.facts(), "prompt_tokens": PROMPT},
        left_out=left_out,
        rounds=rounds,
        summary=table.summary,
        columns=table.columns,
        rows=table.rows,
        notes=[
            "Greedy answers over HTTP, one connection a client, the same bodies at each server.",
            *agreement,
            bandwidth_note(rounds),
        ],
        targets=[*targets, _first_byte_target(rounds, idle)],
        picture=Picture(
            axis="tokens/s",
            bars={case: {n: table.summary[case][n]["tokens_per_second"] for n in played}},
            ours=SERVED,
        ),
    )


def _first_byte_target(rounds: list[Round], case: str) -> Target:
    return Target(
        what="first byte of a stream, over the same prompt and one token without HTTP",
        least=1.5,
        aim=1.2,
        measured=ratio(rounds, case, SERVED, OURS, lambda turn: turn["first"]),
        smaller=True,
        limit="a connection, validation and the tokenizer come before the prompt",
    )
