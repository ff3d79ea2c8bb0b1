"""From the start of a process to its first token, with everything on disk that a second run finds.

Each turn is a fresh process; the driver notes when it says what it has reached. One unmeasured turn
of each engine fills the caches: the file system's, Python's, and that of compiled programs.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from experiments.benchmarks.engines import MODULES, OURS
from experiments.benchmarks.process import EngineFailed
from experiments.benchmarks.report import Result
from experiments.benchmarks.rounds import Turn, interleave, ratio, spread
from experiments.benchmarks.settings import ROOT, Settings
from experiments.benchmarks.subject import Subject

MARKS = ("imported", "loaded", "first", "second")
"""What a turn notes, in seconds since the process was started."""


def run(settings: Settings, subject: Subject, python: Mapping[str, str | Path]) -> Result:
    """Measure. `python` gives the interpreter of each engine."""
    contestants: dict[str, Callable[[], Turn]] = {}
    left_out: dict[str, str] = {}
    for name in MODULES:
        play = _player(settings, subject, name, python[name])
        print(f"warming {name}", flush=True)
        try:
            play()
        except EngineFailed as error:
            if name == OURS:
                raise
            left_out[name] = str(error)
            continue
        contestants[name] = play
    rounds = interleave(contestants, settings.rounds)
    summary = {
        name: {
            **{mark: spread(rounds, name, lambda turn, m=mark: turn[m]) for mark in MARKS},
            "theirs_over_ours": ratio(rounds, name, OURS, lambda turn: turn["first"]),
        }
        for name in contestants
    }
    return Result(
        scenario="cold_start",
        title="Process start to first token, second run",
        settings={**settings.facts(), **subject.facts()},
        left_out=left_out,
        rounds=rounds,
        summary=summary,
        columns=("engine", "first token, s", "theirs / ours", "imports done", "loaded", "second"),
        rows=[_row(name, figures) for name, figures in summary.items()],
        notes=["Seconds since the process was started; a fresh process for each figure."],
    )


def _player(
    settings: Settings, subject: Subject, engine: str, python: str | Path
) -> Callable[[], Turn]:
    """One turn: a fresh process, from its start to its end."""
    arguments = {
        "model": settings.model,
        "folder": str(subject.folder),
        "gguf": str(subject.gguf),
        "threads": settings.threads,
    }
    command = [str(python), "-m", "experiments.benchmarks.first_token", engine]

    def play() -> Turn:
        return _times([*command, json.dumps(arguments)])

    return play


def _times(command: list[str]) -> Turn:
    """Start a process and note when its lines come. Raises EngineFailed."""
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
    reached: list[tuple[str, float]] = []
    with contextlib.ExitStack() as stack:
        log = stack.enter_context(tempfile.TemporaryFile("w+", encoding="utf-8"))
        began = time.perf_counter()
        process = stack.enter_context(
            subprocess.Popen(
                command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=log, text=True
            )
        )
        assert process.stdout is not None
        for line in process.stdout:
            reached.append((line.strip(), time.perf_counter() - began))
        if process.wait():
            log.seek(0)
            raise EngineFailed("".join(log.read().strip().splitlines()[-1:]))
    tokens = [seconds for mark, seconds in reached if mark == "token"]
    return {**dict(reached), "first": tokens[0], "second": tokens[1]}


def _row(name: str, figures: dict[str, Any]) -> list[str]:
    return [
        name,
        figures["first"].show(2),
        figures["theirs_over_ours"].show(2),
        *(f"{figures[mark].median:.2f}" for mark in ("imported", "loaded", "second")),
    ]
