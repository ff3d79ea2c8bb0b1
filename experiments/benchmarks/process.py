"""The driver's side of a worker."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from experiments.benchmarks.settings import ROOT

PATIENCE = 900
"""Seconds that one command may take; torch.compile needs a minute or two on few cores."""
MESSAGE = 300
"""Characters of an engine's error that are kept."""


class EngineFailed(Exception):
    """An engine could not be loaded or could not do what it was asked."""


class Process:
    """A worker. It loads its engine from the beginning on, and has loaded it inside the context."""

    def __init__(self, engine: str, python: Path | str, **arguments: Any):
        """Starts the process and does not wait for it."""
        self._engine = engine
        self._log = tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace")
        command = [python, "-m", "experiments.benchmarks.worker", engine, json.dumps(arguments)]
        self._process = subprocess.Popen(
            list(map(str, command)),
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            start_new_session=True,
        )

    def ask(self, do: str, **arguments: Any) -> dict[str, Any]:
        """One command and its answer. Raises EngineFailed."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps({"do": do, **arguments}).encode() + b"\n")
            self._process.stdin.flush()
        except BrokenPipeError as error:
            raise EngineFailed(f"{do}: the process had ended") from error
        return self._answer(do)

    def _answer(self, what: str) -> dict[str, Any]:
        assert self._process.stdout is not None
        ready, _, _ = select.select([self._process.stdout], [], [], PATIENCE)
        if not ready:
            self._kill()  # a late answer would be taken for that of the next command
            raise EngineFailed(f"{what}: no answer in {PATIENCE} s")
        line = self._process.stdout.readline()
        if not line:
            self._log.seek(0)
            told = " ".join(self._log.read()[-500:].split())
            raise EngineFailed(f"{what}: the process ended. {told}")
        answer = json.loads(line)
        if "error" in answer:
            raise EngineFailed(" ".join(answer["error"].split())[:MESSAGE])
        return answer["answer"]

    def close(self) -> None:
        """End the process; once is enough, and twice does no harm."""
        assert self._process.stdin is not None and self._process.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        try:
            self._process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            self._kill()
        self._process.stdout.close()
        self._log.close()

    def _kill(self) -> None:
        """End it now, and the servers that it has started."""
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def __enter__(self) -> Self:
        """Raises EngineFailed if the engine does not load, as when its package is missing."""
        try:
            self._answer(self._engine)
        except EngineFailed:
            self.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
