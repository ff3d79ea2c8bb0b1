"""A contest: engines in processes of their own, what each of them plays, and who was left out."""

from __future__ import annotations

import contextlib
import re
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from experiments.benchmarks.engines import MODULES, OURS
from experiments.benchmarks.process import EngineFailed, Process
from experiments.benchmarks.rounds import Round, Turn, interleave
from experiments.benchmarks.settings import Settings
from experiments.benchmarks.subject import Subject

PASSES = 2
"""Of the memory's yardstick, between two turns."""
FOLDERS = re.compile(r"(?:/[^\s/'\":]+)+/")
"""Paths of the machine, which have no place in a report."""

Python = Mapping[str, str | Path]
"""The interpreter of each engine."""


class Contest:
    """Workers that have loaded their engines, as long as the context lasts.

    A peer that cannot load or play is left out, with its reason; the toolkit must do both. `ways`
    gives some engines more to load with.
    """

    def __init__(
        self,
        settings: Settings,
        subject: Subject,
        python: Python,
        *,
        engines: Sequence[str],
        context: int = 512,
        ways: Mapping[str, Mapping[str, Any]] | None = None,
    ):
        self.settings, self.subject, self.python = settings, subject, python
        self.left_out: dict[str, str] = {}
        self.workers: dict[str, Process] = {}
        self._wanted = engines
        self._ways = ways or {}
        self._arguments = {
            "folder": str(subject.folder),
            "gguf": {name: str(path) for name, path in subject.gguf.items()},
            "threads": settings.threads,
            "context": context,
        }
        self._cases: dict[str, dict[str, Callable[[], Turn]]] = {}
        self._stack = contextlib.ExitStack()
        self._reading = 0.0

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as opening:  # closes what was opened if something fails here
            print(f"loading {', '.join(self._wanted)}", flush=True)
            size = {"size": self.subject.weight_bytes, "threads": self.settings.threads}
            memory = Process("memory", self.python[OURS], **size)
            opening.callback(memory.close)
            started = {}
            for engine in self._wanted:  # all at the same time
                arguments = {**self._arguments, **self._ways.get(engine, {})}
                started[engine] = Process(MODULES[engine], self.python[engine], **arguments)
                opening.callback(started[engine].close)
            self._memory = opening.enter_context(memory)
            for engine, process in started.items():
                with self._leaving_out(engine):
                    self.workers[engine] = opening.enter_context(process)
            self._stack = opening.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.close()

    def add(
        self,
        case: str,
        engine: str,
        do: str,
        *,
        variant: str = "",
        warm: Sequence[Mapping[str, Any]] | None = None,
        check: Callable[[Turn], None] = lambda turn: None,
        **arguments: Any,
    ) -> None:
        """A contestant: what `engine` is asked in each round of `case`.

        It is asked once, unmeasured, to compile its programs and fill its caches: with `arguments`,
        or with each of `warm` put over them. `check` raises EngineFailed for a turn that is not
        worth anything. Nothing happens for an engine that was left out.
        """
        name = f"{engine}, {variant}" if variant else engine
        if engine not in self.workers or name in self.left_out:
            return
        if variant:
            arguments["variant"] = variant
        with self._leaving_out(name):
            for other in warm if warm is not None else ({},):
                self.workers[engine].ask(do, **{**arguments, **other})
            play = self._player(engine, do, arguments, check)
            self._cases.setdefault(case, {})[name] = play

    def variants(self, engine: str) -> list[str]:
        """The ways to run an engine; none if it was left out."""
        if engine not in self.workers:
            return []
        with self._leaving_out(engine):
            return self.workers[engine].ask("about")["variants"]
        return []

    def play(self, rounds: int) -> list[Round]:
        """All rounds, at least one."""
        self._reading = self._read()
        return interleave(self._cases, self.settings.turns(rounds), self._drop)

    def _player(
        self,
        engine: str,
        do: str,
        arguments: Mapping[str, Any],
        check: Callable[[Turn], None],
    ) -> Callable[[], Turn]:
        """One turn, between two readings of memory; the second is the next turn's first."""

        def play() -> Turn:
            try:
                turn = self.workers[engine].ask(do, **arguments)
            finally:
                before, self._reading = self._reading, self._read()
            check(turn)
            return {**turn, "bandwidth": (before + self._reading) / 2}

        return play

    def _read(self) -> float:
        """How fast memory can be read now, in bytes a second."""
        return self._memory.ask("read", passes=PASSES)["bandwidth"]

    @contextlib.contextmanager
    def _leaving_out(self, name: str) -> Iterator[None]:
        """Note a peer that fails, and go on without it."""
        try:
            yield
        except EngineFailed as error:
            if not self._drop(name, error):
                raise

    def _drop(self, name: str, error: Exception) -> bool:
        if name.startswith(OURS) or not isinstance(error, EngineFailed):
            return False
        self.left_out[name] = FOLDERS.sub("", str(error))
        print(f"left out: {name}: {error}", flush=True)
        return True


def bandwidth(rounds: Sequence[Round]) -> float:
    """Median of all readings of memory, in bytes a second."""
    return statistics.median(
        turn["bandwidth"] for cases in rounds for turns in cases.values() for turn in turns.values()
    )


def bandwidth_note(rounds: Sequence[Round]) -> str:
    """The sentence about it."""
    found = bandwidth(rounds)
    return f"Read bandwidth, measured before and after each turn: median {found / 1e9:.1f} GB/s."


def compilations_note(rounds: Sequence[Round], name: str) -> str:
    """How many programs the toolkit compiled while it was timed; none, if warming went well."""
    turns = [contestants[name] for cases in rounds for contestants in cases.values()]
    count = sum(turn["compiled"] for turn in turns)
    return f"Programs that the toolkit compiled during the measured rounds: {count}."


def made(count: int) -> Callable[[Turn], None]:
    """A check: the turn's tokens, over all its sequences, are this many."""

    def check(turn: Turn) -> None:
        if turn["made"] != count:
            raise EngineFailed(f"{turn['made']} tokens were made instead of {count}")

    return check
