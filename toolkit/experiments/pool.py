"""Threads that ask, and one queue in which their answers arrive."""

from __future__ import annotations

import dataclasses
import queue
import threading
import time
from collections.abc import Mapping
from typing import Any

from toolkit.experiments.ask import Asker, Dropped

MOMENT = 1.0
"""Seconds that the end of a pool waits at most for all its threads."""


@dataclasses.dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a cell: its line, or the error that ends the run."""

    line: bytes | None
    error: BaseException | None = None


class Pool:
    """Asks for several cells at once. `width`: how many.

    The threads are daemons: one that hangs does not keep the process alive.
    """

    def __init__(self, ask: Asker, *, width: int):
        self.width = width
        self._ask = ask
        self._cells: queue.SimpleQueue[Mapping[str, Any] | None] = queue.SimpleQueue()
        self._outcomes: queue.SimpleQueue[Outcome | None] = queue.SimpleQueue()
        self._threads = [
            threading.Thread(target=self._work, name=f"toolkit-ask-{i}", daemon=True)
            for i in range(width)
        ]
        for thread in self._threads:
            thread.start()

    def start(self, line: Mapping[str, Any]) -> None:
        """Ask for a cell."""
        self._cells.put(line)

    def next(self) -> Outcome | None:
        """Wait for what comes first: an outcome, or None after `wake`."""
        return self._outcomes.get()

    def wake(self) -> None:
        """Let `next` return. May be called from a signal handler."""
        self._outcomes.put(None)

    def drop(self) -> None:
        """Give up what is asked right now."""
        self._ask.drop()

    def close(self) -> None:
        """End the threads when they have nothing to do, and wait a moment for it: one that still
        runs while the interpreter shuts down could crash the process."""
        for _ in self._threads:
            self._cells.put(None)
        ended = time.monotonic() + MOMENT
        for thread in self._threads:
            thread.join(max(0.0, ended - time.monotonic()))

    def _work(self) -> None:
        while (line := self._cells.get()) is not None:
            try:
                outcome = Outcome(self._ask(line))
            except Dropped:
                outcome = Outcome(None)
            except BaseException as error:
                outcome = Outcome(None, error)
            self._outcomes.put(outcome)
