"""Weights and activations of eight bits against our own float32: speed, and what it changes."""

from __future__ import annotations

from experiments.benchmarks.contest import Contest, Python, bandwidth_note, made
from experiments.benchmarks.engines import LLAMA, OURS, OURS_INT8
from experiments.benchmarks.engines.ours_int8 import supported
from experiments.benchmarks.figures import Figure, tabulate
from experiments.benchmarks.picture import of_summary
from experiments.benchmarks.report import Result
from experiments.benchmarks.rounds import ratio
from experiments.benchmarks.scenarios import Skipped
from experiments.benchmarks.scenarios.decode_batch1 import speed
from experiments.benchmarks.settings import Settings
from experiments.benchmarks.subject import Subject
from experiments.benchmarks.targets import Target

INT8, FLOAT32 = f"{OURS_INT8}, W8A8", f"{OURS}, float32"


def run(settings: Settings, subject: Subject, python: Python) -> Result:
    """Measure. Raises Skipped where models cannot be loaded so."""
    if not supported():
        raise Skipped('this version of the toolkit has no `toolkit.load(..., quant="int8")`')
    sizes = settings.pick(check={1: 4}, default={1: 48, 16: 16}, full={1: 128, 16: 64})
    text = list(subject.corpus[: settings.pick(check=32, default=512, full=2048)])
    prompt = subject.prompt(32)
    engines = (OURS_INT8, OURS, LLAMA)
    with Contest(settings, subject, python, engines=engines, context=512) as contest:
        ways = [(e, way) for e in engines for way in contest.variants(e) if "F32 " not in way]
        for rows, count in sizes.items():
            for engine, way in ways:
                if engine == LLAMA and rows > 1:
                    continue
                contest.add(
                    str(rows),
                    engine,
                    "decode",
                    variant=way,
                    warm=({"count": 4},),
                    check=made(rows * count),
                    ids=prompt,
                    count=count,
                    **({} if engine == LLAMA else {"rows": rows}),
                )
        rounds = contest.play(3)
        quality = contest.workers[OURS_INT8].ask("quality", ids=text)
    table = tabulate(
        rounds,
        [Figure(key="tokens_per_second", heading="tokens/s", value=speed)],
        ours=INT8,
        case_heading="rows",
        compared="int8 / theirs",
    )
    return Result(
        scenario="int8",
        title="Eight-bit weights, greedy",
        settings={**settings.facts(), **subject.facts(), "text": len(text)},
        left_out=contest.left_out,
        rounds=rounds,
        summary={"quality": quality, **table.summary},
        columns=table.columns,
        rows=table.rows,
        notes=[
            bandwidth_note(rounds),
            f"On {len(text)} tokens of English the perplexity is "
            f"{quality['perplexity_int8']:.2f} instead of {quality['perplexity_float32']:.2f}; "
            f"KL(float32 || int8) is {quality['kl']:.4f} nats a token, and "
            f"{100 * quality['agree']:.1f} % of the positions have the same best token.",
        ],
        targets=[
            Target(
                what=f"int8 at {case} {'row' if case == '1' else 'rows'} against our float32",
                least=1.5,
                aim=2.0,
                measured=ratio(rounds, case, INT8, FLOAT32, speed),
            )
            for case in rounds[0]
        ],
        picture=of_summary(table.summary, "tokens_per_second", axis="tokens/s", ours=OURS_INT8),
    )
