"""Batch-1 greedy decoding in float32, against the peers and against the memory's bandwidth.

Every engine gets the same prompt ids, makes the same number of tokens, never stops at EOS and has
computed its prompt anew. Decoding is what follows the first token.
"""

from __future__ import annotations

import contextlib
import statistics
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from experiments.benchmarks.engines import HUGGING_FACE, MODULES, OURS
from experiments.benchmarks.process import EngineFailed, Process
from experiments.benchmarks.report import Result
from experiments.benchmarks.rounds import Round, Turn, interleave, ratio, spread
from experiments.benchmarks.settings import Settings
from experiments.benchmarks.subject import Subject

PASSES = 5
"""Of the memory's yardstick, before and after each turn."""
WARM = 2
"""Unmeasured turns of each contestant: programs are compiled, caches filled."""
TIE = 1e-3
"""Logits nearer than this are a tie that rounding decides."""

COLUMNS = (
    "engine",
    "tokens/s",
    "ours / theirs",
    "share of read bandwidth",
    "first token, ms",
    "tokens as transformers would choose",
)


def run(settings: Settings, subject: Subject, python: Mapping[str, str | Path]) -> Result:
    """Measure. `python` gives the interpreter of each engine."""
    left_out: dict[str, str] = {}
    with contextlib.ExitStack() as stack:
        size, threads = subject.weight_bytes, settings.threads
        memory = stack.enter_context(Process("memory", python[OURS], size=size, threads=threads))
        workers = dict(_start(settings, subject, python, stack, left_out))
        contestants: dict[str, Callable[[], Turn]] = {}
        for engine, worker in workers.items():
            for variant in worker.ask("about")["variants"]:
                name = f"{engine}, {variant}"
                play = _player(worker, memory, subject, settings.new_tokens, variant)
                with _leaving_out(name, left_out):
                    for _ in range(WARM):
                        play()
                    contestants[name] = play
        rounds = interleave(contestants, settings.rounds)
        verdicts = _judge(list(contestants), rounds, workers.get(HUGGING_FACE), subject)
    return _result(settings, subject, left_out, rounds, verdicts)


def _start(
    settings: Settings,
    subject: Subject,
    python: Mapping[str, str | Path],
    stack: contextlib.ExitStack,
    left_out: dict[str, str],
) -> Iterator[tuple[str, Process]]:
    """The engines that load here; the toolkit must."""
    arguments = {
        "folder": str(subject.folder),
        "gguf": str(subject.gguf),
        "threads": settings.threads,
        "context": max(512, settings.prompt_tokens + settings.new_tokens),
    }
    for engine, module in MODULES.items():
        print(f"loading {engine}", flush=True)
        with _leaving_out(engine, left_out):
            yield engine, stack.enter_context(Process(module, python[engine], **arguments))


@contextlib.contextmanager
def _leaving_out(name: str, left_out: dict[str, str]) -> Iterator[None]:
    """Note a peer that fails, and go on without it."""
    try:
        yield
    except EngineFailed as error:
        if name.startswith(OURS):
            raise
        left_out[name] = str(error)
        print(f"left out: {name}: {error}", flush=True)


def _player(
    worker: Process, memory: Process, subject: Subject, count: int, variant: str
) -> Callable[[], Turn]:
    """One turn: decode, and read memory before and after."""

    def play() -> Turn:
        before = memory.ask("read", passes=PASSES)["bandwidth"]
        turn = worker.ask("decode", ids=subject.prompt, count=count, variant=variant)
        after = memory.ask("read", passes=PASSES)["bandwidth"]
        if len(turn["tokens"]) != count:
            raise EngineFailed(f"{len(turn['tokens'])} tokens were made instead of {count}")
        return {**turn, "count": count, "bandwidth": (before + after) / 2}

    return play


def _judge(
    names: list[str], rounds: list[Round], judge: Process | None, subject: Subject
) -> dict[str, dict[str, Any]]:
    """For each contestant: its tokens, whether they are the same in all rounds, and whether they
    are the best ones by transformers' logits. The rounds lose their copies."""
    verdicts: dict[str, dict[str, Any]] = {}
    for name in names:
        tokens, *others = [turns[name].pop("tokens") for turns in rounds]
        stable = all(other == tokens for other in others)
        found = judge.ask("judge", ids=subject.prompt, tokens=tokens) if judge else {}
        verdicts[name] = {"tokens": " ".join(map(str, tokens)), "stable": stable, **found}
    return verdicts


def speed(turn: Turn) -> float:
    """Tokens a second after the first token."""
    return (turn["count"] - 1) / (turn["seconds"] - turn["first"])


def _result(
    settings: Settings,
    subject: Subject,
    left_out: dict[str, str],
    rounds: list[Round],
    verdicts: dict[str, dict[str, Any]],
) -> Result:
    def share(turn: Turn) -> float:
        return subject.weight_bytes * speed(turn) / turn["bandwidth"]

    ours = next(name for name in verdicts if name.startswith(OURS))
    summary = {
        name: {
            "tokens_per_second": spread(rounds, name, speed),
            "ours_over_theirs": ratio(rounds, ours, name, speed),
            "share_of_bandwidth": spread(rounds, name, share),
            "first_token_seconds": spread(rounds, name, lambda turn: turn["first"]),
            **verdict,
        }
        for name, verdict in verdicts.items()
    }
    lengths = f"{settings.new_tokens} tokens after {settings.prompt_tokens}"
    return Result(
        scenario="decode_batch1",
        title=f"Batch 1, float32, greedy: {lengths}",
        settings={**settings.facts(), **subject.facts()},
        left_out=left_out,
        rounds=rounds,
        summary=summary,
        columns=COLUMNS,
        rows=[_row(name, figures) for name, figures in summary.items()],
        notes=_notes(subject, rounds, ours, verdicts[ours]),
    )


def _row(name: str, figures: dict[str, Any]) -> list[str]:
    agreed = "not compared"
    if "equal" in figures:
        agreed = f"{figures['equal']} of {figures['of']}, gap {figures['gap']:.1e}"
    return [
        name,
        figures["tokens_per_second"].show(1),
        figures["ours_over_theirs"].show(2),
        figures["share_of_bandwidth"].show(0, unit=" %", scale=100),
        figures["first_token_seconds"].show(0, scale=1e3),
        agreed + ("" if figures["stable"] else ", not the same in all rounds"),
    ]


def _notes(subject: Subject, rounds: list[Round], ours: str, verdict: dict[str, Any]) -> list[str]:
    bandwidth = statistics.median(t["bandwidth"] for turns in rounds for t in turns.values())
    compiled = sum(turns[ours]["compiled"] for turns in rounds)
    notes = [
        f"Read bandwidth, measured before and after each turn: median {bandwidth / 1e9:.1f} GB/s. "
        f"A token reads {subject.weight_bytes / 1e6:.0f} MB of weights; the cache is not counted.",
        f"Programs that the toolkit compiled during the measured rounds: {compiled}.",
        "The gap is the most by which the logit of a chosen token is below the best one, by "
        "transformers' logits given the same tokens.",
    ]
    if "equal" in verdict:
        valid = verdict["equal"] >= 0.99 * verdict["of"] and verdict["gap"] < TIE
        notes.append(
            f"The toolkit's figures {'count' if valid else 'do NOT count'}: at least 99 % of its "
            f"tokens must be transformers' own choice, and the others within {TIE} of it."
        )
    return notes
