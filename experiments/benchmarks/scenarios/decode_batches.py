"""Greedy decoding of several rows: tokens a second of the whole batch, after the first tokens.

All rows hold the same prompt, so that every engine decodes the same steps from the first token on;
what they then compute depends on no other row.
"""

from __future__ import annotations

from experiments.benchmarks.contest import Contest, Python, bandwidth_note, made
from experiments.benchmarks.engines import HUGGING_FACE, NAIVE, OURS, OURS_XLA
from experiments.benchmarks.figures import Figure, tabulate
from experiments.benchmarks.picture import of_summary
from experiments.benchmarks.report import Result
from experiments.benchmarks.rounds import best, ratio
from experiments.benchmarks.scenarios.decode_batch1 import SLOW, agreement, judged, speed, valid
from experiments.benchmarks.settings import Settings
from experiments.benchmarks.subject import Subject
from experiments.benchmarks.targets import Target

LENGTH = 32
COMPILED = "static cache, compiled"
USUAL = (OURS, OURS_XLA, HUGGING_FACE)
"""The naive loop, a fifth as fast as the toolkit with 16 rows, has no turn in a run of default
size."""
SELDOM = (COMPILED, OURS_XLA)
"""These are measured with 16 rows only, or in a long run: each number of rows is a program of its
own, and, for the compiled cache, the more rows, the less there is to gain."""


def run(settings: Settings, subject: Subject, python: Python) -> Result:
    """Measure."""
    sizes = settings.pick(
        check={1: 6, 4: 6},
        default={4: 16, 16: 16, 64: 8},
        full={1: 64, 4: 64, 16: 64, 64: 32, 256: 16},
    )
    prompt = subject.prompt(LENGTH)
    engines = settings.pick(check=(*USUAL, NAIVE), default=USUAL, full=(*USUAL, NAIVE))
    ways = {OURS: {"max_batch": max(64, *sizes)}}
    with Contest(settings, subject, python, engines=engines, ways=ways) as contest:
        for rows, count in sizes.items():
            for engine in engines:
                for variant in contest.variants(engine):
                    if not _plays(settings, engine, variant, rows):
                        continue
                    contest.add(
                        str(rows),
                        engine,
                        "decode",
                        variant=variant,
                        warm=({"count": 4},) if engine != HUGGING_FACE else ({},),
                        check=made(rows * count),
                        ids=prompt,
                        count=count,
                        rows=rows,
                    )
        rounds = contest.play(3)
        verdicts = {case: judged(rounds, case, contest, prompt) for case in rounds[0]}
    ours = f"{OURS}, float32"
    table = tabulate(
        rounds,
        [Figure(key="tokens_per_second", heading="tokens/s", value=speed, digits=0)],
        ours=ours,
        case_heading="rows",
    )
    return Result(
        scenario="decode_batches",
        title="Several rows, greedy",
        settings={**settings.facts(), **subject.facts(), "new": sizes},
        left_out=contest.left_out,
        rounds=rounds,
        summary=table.summary,
        columns=[*table.columns, "first row as transformers would choose"],
        rows=[[*row, agreement(verdicts[row[0]][row[1]])] for row in table.rows],
        notes=[
            bandwidth_note(rounds),
            f"Each row decodes {', '.join(f'{n} tokens at {b} rows' for b, n in sizes.items())} "
            f"after a prompt of {LENGTH}; the figure begins after the first token.",
            *filter(None, {valid(found[ours]) for found in verdicts.values()}),
        ],
        targets=[
            Target(
                what=f"{case} rows against transformers, its fastest way",
                least=1.2,
                aim=1.5,
                measured=ratio(rounds, case, ours, theirs, speed),
                limit="here both are bound by the processor's matrix products, not by memory",
            )
            for case in rounds[0]
            if case == "16" and (theirs := best(rounds, case, HUGGING_FACE, speed))
        ],
        picture=of_summary(table.summary, "tokens_per_second", axis="tokens/s", ours=OURS),
    )


def _plays(settings: Settings, engine: str, variant: str, rows: int) -> bool:
    """Whether a way of running has its turn with so many rows."""
    if variant == SLOW or (engine == NAIVE and rows > 16):
        return False
    return rows == 16 or settings.size == "full" or not {engine, variant} & set(SELDOM)
