"""The runner: asks for cells, several at a time, and records each answer as it comes."""

from __future__ import annotations

import contextlib
import dataclasses
import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Protocol

from toolkit.errors import TargetError
from toolkit.experiments import store
from toolkit.experiments.declaration import ModelPart, ServerPart
from toolkit.experiments.pool import Outcome
from toolkit.experiments.progress import Progress
from toolkit.experiments.stop import Stop
from toolkit.experiments.store import Journal
from toolkit.experiments.target import Local, Target

GIVE_UP = 20
"""Failures in a row after which a run ends: nobody answers any more."""


class Crew(Protocol):
    """Whoever asks: threads of this process (`Pool`), or actors on other machines."""

    width: int
    """Cells that are asked at a time."""

    def start(self, line: Mapping[str, Any]) -> None: ...
    def next(self) -> Outcome | None: ...
    def wake(self) -> None: ...
    def drop(self) -> None: ...
    def close(self) -> None: ...


@dataclasses.dataclass(kw_only=True)
class Tally:
    """What a session did."""

    answered: int = 0
    failed: int = 0
    in_a_row: int = 0

    def count(self, line: bytes) -> bool:
        """Count a line; whether it is a failure."""
        bad = store.is_failure(line)
        self.failed += bad
        self.answered += not bad
        self.in_a_row = self.in_a_row + 1 if bad else 0
        return bad


def run_cells(
    lines: Iterable[Mapping[str, Any]],
    crew: Crew,
    journal: Journal,
    progress: Progress,
    stop: Stop,
    tally: Tally,
) -> None:
    """Ask for every cell and record what comes, until all are done or `stop` is asked.

    Raises what ends a run early: TargetError where nobody answers, RunError for a full disk,
    EngineClosed. What was recorded until then stays.
    """
    waiting, flying = iter(lines), 0
    with stop.listening(crew.wake), contextlib.closing(crew):
        try:
            while True:
                flying += _start(waiting, crew, crew.width - flying) if not stop.asked else 0
                if not flying or stop.asked > 1:
                    break
                outcome = crew.next()
                if outcome is None:
                    _say_how(stop, flying, progress)
                    continue
                flying -= 1
                if outcome.error is not None:
                    raise outcome.error
                if outcome.line is not None:
                    journal.append(outcome.line)
                    progress.step(failed=tally.count(outcome.line))
                if tally.in_a_row >= GIVE_UP:
                    raise TargetError(
                        f"{GIVE_UP} cells in a row have failed, the last with: "
                        f"{_message(outcome.line)} Mend that and run again to go on."
                    )
        finally:
            if flying:
                crew.drop()


def _start(waiting: Iterator[Mapping[str, Any]], crew: Crew, most: int) -> int:
    """Ask for the next cells; how many."""
    count = 0
    while count < most and (line := next(waiting, None)) is not None:
        crew.start(line)
        count += 1
    return count


def _say_how(stop: Stop, flying: int, progress: Progress) -> None:
    if stop.asked == 1:
        progress.say(f"Stopping after the {flying} cells in flight. Once more drops them.")


def _message(line: bytes | None) -> str:
    return json.loads(line)["error"]["message"] if line else ""


def width(target: Target, part: ModelPart | ServerPart | None, choices: int) -> int:
    """Cells to ask at a time: what fills a model's batch twice, or what a server may get.

    The second half waits with its prompts computed when a row becomes free.
    """
    if isinstance(target, Local):
        rows = target.lm.engine.limits.max_rows
        return max(2, min(2 * -(-rows // choices), 256))
    return part.concurrency if isinstance(part, ServerPart) else 8
