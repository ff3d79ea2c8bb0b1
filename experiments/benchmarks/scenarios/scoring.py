"""Log-probabilities of given prompts, nothing generated."""

from __future__ import annotations

import contextlib
import itertools
import math

from experiments.benchmarks.contest import Contest, Python, bandwidth_note, compilations_note
from experiments.benchmarks.engines import HUGGING_FACE, LLAMA, OURS
from experiments.benchmarks.figures import Figure, tabulate
from experiments.benchmarks.picture import of_summary
from experiments.benchmarks.process import EngineFailed
from experiments.benchmarks.report import Result
from experiments.benchmarks.rounds import Round, Turn, best, ratio
from experiments.benchmarks.settings import Settings
from experiments.benchmarks.subject import Subject
from experiments.benchmarks.targets import Target

OURS_NAME = f"{OURS}, float32"
WAYS = ("batches of 1", "batches of 4", "batches of 16")
TRIED = 16
"""Prompts of the trial that finds the fastest of them: the largest batch is full."""
AGREE = 1e-2
"""Nats by which the sum over a prompt may differ from transformers'."""


def run(settings: Settings, subject: Subject, python: Python) -> Result:
    """Measure."""
    count = settings.pick(check=4, default=64, full=64)
    length = settings.pick(check=16, default=256, full=256)
    some = max(2, count // 4)
    mixed = [length // 8 + (7 * length * i // (8 * some)) for i in range(some)]
    few_count = max(1, count // 8)
    half = count // 2 if settings.size == "default" else count
    cases = {
        f"{count} of {length}": subject.prompts([length] * count),
        f"{some} of {mixed[0]} to {mixed[-1]}": subject.prompts(mixed[::2] + mixed[1::2][::-1]),
    }
    engines = (OURS, HUGGING_FACE, LLAMA)
    with Contest(settings, subject, python, engines=engines, context=2 * length) as contest:
        for case, prompts in cases.items():
            few, even = prompts[:few_count], "to" not in case
            few_first = ({"prompts": few},)
            contest.add(
                case,
                OURS,
                "score",
                variant="float32",
                warm=few_first if even else ({},),  # which mixed lengths meet is known of all only
                prompts=prompts,
            )
            ways = settings.pick(check=("batches of 2",), default=WAYS, full=WAYS)
            if settings.size == "default":
                ways = (_fastest(contest, prompts[:TRIED]),)
            for way in ways:
                contest.add(
                    case,
                    HUGGING_FACE,
                    "score",
                    variant=way,
                    warm=few_first,
                    prompts=prompts[: half if even else None],
                )
            if even:
                contest.add(
                    case,
                    LLAMA,
                    "score",
                    variant="F32 GGUF",
                    warm=({"prompts": few[:1]},),
                    prompts=few,
                )
        rounds = contest.play(2)
    lengths = {case: _mean(prompts) for case, prompts in cases.items()}
    differences = _differences(rounds)
    table = tabulate(
        rounds,
        [
            Figure(key="prompts_per_second", heading="prompts/s", value=speed),
            Figure(
                key="memory_megabytes",
                heading="memory while it ran, MB",
                value=megabytes,
                digits=0,
            ),
        ],
        ours=OURS_NAME,
        case_heading="prompts",
    )
    return Result(
        scenario="scoring",
        title="Scoring prompts",
        settings={**settings.facts(), **subject.facts(), "mean_length": lengths},
        left_out=contest.left_out,
        rounds=rounds,
        summary=table.summary,
        columns=table.columns,
        rows=table.rows,
        notes=[
            bandwidth_note(rounds),
            "transformers: one forward pass a batch, prompts sorted by length and padded on the "
            "right, log-softmax over the vocabulary; as many prompts in a batch as a trial on some "
            f"of them showed to be fastest; of {count} it scores {half}. The toolkit also gives "
            "rank and entropy of each token. llama-cpp-python keeps all logits and scores "
            f"{few_count} of the prompts, one after another.",
            "Memory is how much the process grew by at most, above what it held before.",
            compilations_note(rounds, OURS_NAME),
            *_verdict(differences),
        ],
        targets=_targets(rounds),
        picture=of_summary(table.summary, "prompts_per_second", axis="prompts/s", ours=OURS),
    )


def speed(turn: Turn) -> float:
    """Prompts a second."""
    return turn["made"] / turn["seconds"]


def _mean(prompts: list[list[int]]) -> float:
    return sum(map(len, prompts)) / len(prompts)


def megabytes(turn: Turn) -> float:
    """Growth of the process; NaN where the system does not say."""
    return math.nan if turn["memory"] is None else turn["memory"] / 1e6


def _fastest(contest: Contest, prompts: list[list[int]]) -> str:
    """How many prompts in a batch are fastest for transformers, by a trial."""
    worker = contest.workers.get(HUGGING_FACE)
    taken: dict[str, float] = {}
    if worker is not None:
        with contextlib.suppress(EngineFailed):  # a way that fails is left out when it has its turn
            worker.ask("score", variant=WAYS[0], prompts=prompts[:2])  # the first call is slower
        for way in WAYS:
            with contextlib.suppress(EngineFailed):
                taken[way] = worker.ask("score", variant=way, prompts=prompts)["seconds"]
    return min(taken, key=taken.__getitem__, default=WAYS[0])


def _verdict(difference: float | None) -> list[str]:
    """Whether the figures count; nothing where nobody else scored the prompts."""
    if difference is None:
        return []
    count = "count" if difference < AGREE else "do NOT count"
    return [
        "The largest difference of a prompt's sum between the toolkit and transformers is "
        f"{difference:.1e} nats; the figures {count}, as it may be {AGREE} at most."
    ]


def _differences(rounds: list[Round]) -> float | None:
    """The largest difference between the toolkit's sums and transformers', None without them. The
    rounds lose their copies."""
    largest = None
    for turns in rounds:
        for contestants in turns.values():
            found = {name: turn.pop("logprobs") for name, turn in contestants.items()}
            for name in found:
                if name.startswith(HUGGING_FACE):
                    ours, theirs = found[OURS_NAME], found[name]
                    some = ours[: max(len(theirs), len(ours) // 2)]  # they score half at least
                    pairs = itertools.zip_longest(some, theirs, fillvalue=1e9)
                    largest = max(largest or 0.0, *(abs(a - b) for a, b in pairs))
    return largest


def _targets(rounds: list[Round]) -> list[Target]:
    case = next(iter(rounds[0]))
    theirs = best(rounds, case, HUGGING_FACE, speed)
    if case != "64 of 256" or theirs is None:
        return []
    return [
        Target(
            what="scoring 64 prompts of 256 against transformers with log-softmax",
            least=1.2,
            aim=1.6,
            measured=ratio(rounds, case, OURS_NAME, theirs, speed),
            limit="a prompt's matrix products are bound by the processor; the two engines differ "
            "in the library that computes them",
        )
    ]
