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
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from experiments.benchmarks.contest import FOLDERS, Python
from experiments.benchmarks.engines import HUGGING_FACE, LLAMA, OURS
from experiments.benchmarks.picture import Picture
from experiments.benchmarks.process import EngineFailed
from experiments.benchmarks.report import Result
from experiments.benchmarks.rounds import Round, Turn, interleave, ratio, spread
from experiments.benchmarks.settings import ROOT, Settings
from experiments.benchmarks.subject import Subject
from experiments.benchmarks.targets import Target

MARKS = ("imported", "loaded", "first", "second")
"""What a turn notes, in seconds since the process was started."""
CASE = "second run"
PATIENCE = 300
"""Seconds that one process may take."""


def run(settings: Settings, subject: Subject, python: Python) -> Result:
    """Measure."""
    contestants: dict[str, Callable[[], Turn]] = {}
    left_out: dict[str, str] = {}

    def drop(name: str, error: Exception) -> bool:
        if name == OURS or not isinstance(error, EngineFailed):
            return False
        left_out[name] = FOLDERS.sub("", str(error))
        return True

    for name in (OURS, HUGGING_FACE, LLAMA):
        play = _player(settings, subject, name, python[name])
        print(f"warming {name}", flush=True)
        try:
            play()
        except EngineFailed as error:
            if not drop(name, error):
                raise
            continue
        contestants[name] = play
    rounds = interleave({CASE: contestants}, settings.turns(5), drop)
    summary = {name: _figures(rounds, name) for name in rounds[0][CASE]}
    return Result(
        scenario="cold_start",
        title="Process start to first token, second run",
        settings={**settings.facts(), **subject.facts()},
        left_out=left_out,
        rounds=rounds,
        summary=summary,
        columns=("engine", "first token, s", "theirs / ours", "imports done", "loaded", "second"),
        rows=[_row(name, figures) for name, figures in summary.items()],
        notes=[
            "Seconds since the process was started; a fresh process for each figure. What is on "
            "disk stays there: files, Python's bytecode, compiled programs."
        ],
        targets=[
            Target(
                what="process start to first token, warm caches",
                least=3.0,
                aim=2.0,
                measured=summary[OURS]["first"],
                unit=" s",
                smaller=True,
                limit="imports of JAX, reading the weights and reading compiled programs from disk "
                "follow each other",
            )
        ],
        picture=Picture(
            axis="seconds to the first token",
            bars={CASE: {name: found["first"] for name, found in summary.items()}},
            ours=OURS,
        ),
    )


def _figures(rounds: list[Round], name: str) -> dict[str, Any]:
    return {
        **{mark: spread(rounds, CASE, name, lambda turn, m=mark: turn[m]) for mark in MARKS},
        "theirs_over_ours": ratio(rounds, CASE, name, OURS, lambda turn: turn["first"]),
    }


def _player(
    settings: Settings, subject: Subject, engine: str, python: str | Path
) -> Callable[[], Turn]:
    """One turn: a fresh process, from its start to its end."""
    arguments = {
        "model": settings.model,
        "folder": str(subject.folder),
        "gguf": str(subject.gguf["F32"]),
        "threads": settings.threads,
    }
    command = [str(python), "-m", "experiments.benchmarks.scenarios.first_token", engine]

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
        limit = threading.Timer(PATIENCE, process.kill)
        limit.start()
        for line in process.stdout:
            reached.append((line.strip(), time.perf_counter() - began))
        limit.cancel()
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
