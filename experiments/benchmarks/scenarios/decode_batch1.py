"""Batch-1 greedy decoding, against the peers and against the memory's bandwidth.

Every engine gets the same prompt ids, makes the same number of tokens, never stops at EOS and has
computed its prompt anew. Decoding is what follows the first token.
"""

from __future__ import annotations

import contextlib
import dataclasses
from typing import Any

from experiments.benchmarks.contest import (
    Contest,
    Python,
    bandwidth_note,
    compilations_note,
    made,
)
from experiments.benchmarks.engines import HUGGING_FACE, LLAMA, NAIVE, OURS, OURS_XLA
from experiments.benchmarks.figures import Figure, tabulate
from experiments.benchmarks.picture import of_summary
from experiments.benchmarks.process import EngineFailed
from experiments.benchmarks.report import Result
from experiments.benchmarks.rounds import Round, Turn, Value, best, ratio, spread
from experiments.benchmarks.settings import Settings
from experiments.benchmarks.subject import Subject
from experiments.benchmarks.targets import Target

SLOW = "static cache"
"""A way of running that is no faster than the others: only here, and only in a long run."""
TIE = 1e-3
"""Logits nearer than this are a tie that rounding decides."""
CASE = "1"
F32 = f"{LLAMA}, F32"
LIMIT = (
    "a step is the weights read once. What is left is the work between the products, which one "
    "core does"
)


def run(settings: Settings, subject: Subject, python: Python) -> Result:
    """Measure."""
    length = 32
    count = settings.pick(check=8, default=32, full=128)
    prompt = subject.prompt(length)
    engines = (OURS, OURS_XLA, HUGGING_FACE, LLAMA, NAIVE)
    with Contest(settings, subject, python, engines=engines) as contest:
        for engine in engines:
            for variant in contest.variants(engine):
                if variant == SLOW and settings.size == "default":
                    continue
                contest.add(
                    CASE,
                    engine,
                    "decode",
                    variant=variant,
                    warm=({"count": 4},) if engine != HUGGING_FACE else ({},),
                    check=made(count),
                    ids=prompt,
                    count=count,
                )
        rounds = contest.play(7)
        verdicts = judged(rounds, CASE, contest, prompt)
    ours = f"{OURS}, float32"
    reads = bytes_of(subject)
    figures = (
        Figure(key="tokens_per_second", heading="tokens/s", value=speed),
        Figure(
            key="share_of_bandwidth",
            heading="share of read bandwidth",
            value=share_of(reads),
            digits=0,
            unit=" %",
            scale=100,
        ),
        Figure(
            key="first_token_seconds",
            heading="first token, ms",
            value=lambda turn: turn["first"],
            digits=0,
            scale=1e3,
        ),
    )
    table = tabulate(rounds, figures, ours=ours, case_heading="rows")
    for name, verdict in verdicts.items():
        table.summary[CASE][name] |= verdict
    return Result(
        scenario="decode_batch1",
        title=f"One sequence, greedy: {count} tokens after {length}",
        settings={**settings.facts(), **subject.facts(), "prompt": length, "new": count},
        left_out=contest.left_out,
        rounds=rounds,
        summary=table.summary,
        columns=[*table.columns[1:], "tokens as transformers would choose"],
        rows=[[*row[1:], agreement(verdicts[row[1]])] for row in table.rows],
        notes=_notes(subject, rounds, ours, verdicts[ours]),
        targets=_targets(rounds, ours, share_of(reads)),
        picture=of_summary(table.summary, "tokens_per_second", axis="tokens/s", ours=OURS),
    )


def speed(turn: Turn) -> float:
    """Tokens a second after the first of each row."""
    rows = turn["made"] // len(turn["tokens"]) if "tokens" in turn else turn["rows"]
    return (turn["made"] - rows) / (turn["seconds"] - turn["first"])


def bytes_of(subject: Subject) -> Value:
    """Bytes of weights that an engine reads for a step; the cache is not counted."""
    ratio_q8 = (1 + 2 / 32) / 4  # a byte a weight and a 16-bit scale for each 32, of four bytes

    def read(turn: Turn) -> float:
        return subject.weight_bytes * (ratio_q8 if turn.get("form") == "Q8_0" else 1)

    return read


def share_of(reads: Value) -> Value:
    """The share of the read bandwidth that one row's decoding reached."""
    return lambda turn: reads(turn) * speed(turn) / turn["bandwidth"]


def judged(
    rounds: list[Round], case: str, contest: Contest, prompt: list[int]
) -> dict[str, dict[str, Any]]:
    """For each contestant: whether its tokens are the same in all rounds, and whether they are the
    best ones by transformers' logits. The rounds keep only how many they were."""
    verdicts: dict[str, dict[str, Any]] = {}
    judge = contest.workers.get(HUGGING_FACE)
    for name in rounds[0][case]:
        tokens, *others = [turns[case][name].pop("tokens") for turns in rounds]
        for turns in rounds:
            turns[case][name]["rows"] = turns[case][name]["made"] // len(tokens)
        found: dict[str, Any] = {}
        if judge:
            with contextlib.suppress(EngineFailed):  # it may have ended in the last round
                found = judge.ask("judge", ids=prompt, tokens=tokens)
        verdicts[name] = {"stable": all(other == tokens for other in others), **found}
    return verdicts


def agreement(verdict: dict[str, Any]) -> str:
    """A verdict in a cell."""
    agreed = "not compared"
    if "equal" in verdict:
        agreed = f"{verdict['equal']} of {verdict['of']}, gap {verdict['gap']:.0e}"
    return agreed + ("" if verdict["stable"] else ", not the same in all rounds")


def valid(verdict: dict[str, Any]) -> str | None:
    """Whether the toolkit's figures count; None where nobody could judge."""
    if "equal" not in verdict:
        return None
    counts = verdict["equal"] >= 0.99 * verdict["of"] and verdict["gap"] < TIE
    return (
        f"The toolkit's figures {'count' if counts else 'do NOT count'}: at least 99 % of its "
        f"tokens must be transformers' own choice, and the others within {TIE} of it."
    )


def _notes(subject: Subject, rounds: list[Round], ours: str, verdict: dict[str, Any]) -> list[str]:
    notes = [
        f"{bandwidth_note(rounds)} A token reads {subject.weight_bytes / 1e6:.0f} MB of weights in "
        "float32; the cache is not counted. Q8_0 reads 27 % of that and computes something else.",
        compilations_note(rounds, ours),
        "The gap is the most by which the logit of a chosen token is below the best one, by "
        "transformers' logits given the same tokens.",
    ]
    return [*notes, *filter(None, [valid(verdict)])]


def _targets(rounds: list[Round], ours: str, share: Value) -> list[Target]:
    read = spread(rounds, CASE, ours, share)
    percent = dataclasses.replace(
        read, median=100 * read.median, low=100 * read.low, high=100 * read.high
    )
    found = [
        Target(
            what="one sequence: share of the read bandwidth",
            least=80,
            aim=90,
            measured=percent,
            unit=" %",
            digits=0,
            limit=LIMIT,
        )
    ]
    for what, engine, least, aim in (
        ("one sequence against transformers, its fastest way", HUGGING_FACE, 1.35, 1.7),
        ("one sequence against llama-cpp-python on F32", F32, 1.0, 1.1),
    ):
        if theirs := best(rounds, CASE, engine, speed):
            over = ratio(rounds, CASE, ours, theirs, speed)
            found.append(Target(what=what, least=least, aim=aim, measured=over, limit=LIMIT))
    return found
