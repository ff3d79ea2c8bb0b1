"""A hundred thousand cells: planned, resumed and summarised in seconds and in under 1 GiB.

Each phase is a process of its own, so that its memory is not mixed with that of other tests.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.experiments.fakes import Fake
from toolkit.errors import TargetError
from toolkit.experiments import store
from toolkit.experiments.ask import AskServer
from toolkit.experiments.run import Run, open_run
from toolkit.experiments.sweep import sweep

CELLS, LEFT = 100_000, 10
SECONDS = 60.0
"""A guard against work that grows with the square of the cells, not a measurement."""
MIB = 1024.0


def planned(out: Path) -> dict[str, Any]:
    """Nobody answers, so the run ends when its plan is written."""
    with pytest.raises(TargetError, match="closed"):
        run(Fake(refuse), out)
    return {"lines": len(store.asked(out))}


def resumed(out: Path) -> dict[str, Any]:
    """All but a few cells are recorded: only those are asked."""
    target = Fake()
    done = run(target, out)
    return {"asked": len(target.asked), "done": done.done}


def summarised(out: Path) -> dict[str, Any]:
    """What a person sees of a run, finished or not."""
    seen = open_run(out)
    frame, means = seen.requests, seen.summary()
    return {
        "shown": repr(seen),
        "missing": len(seen.missing),
        "rows": len(frame),
        "cells": frame["cell_id"].nunique(),
        "choices": means["choices"].tolist(),
    }


def run(target: Fake, out: Path) -> Run:
    prompts = [f"prompt {i}" for i in range(100)]
    grid = {"temperature": [i / 10 for i in range(10)]}
    return sweep(target, prompts, grid=grid, seeds=100, out=out, progress=False)


def refuse(fields: Mapping[str, Any]) -> None:
    raise TargetError("closed", code=401)


def record(out: Path) -> None:
    """Answer all cells but the last few, as a run against a server does."""
    ask = AskServer(Fake(), attempts=1)
    journal = store.Journal(out / store.RESPONSES)
    for number, line in enumerate(store.requests(out)):
        if number < CELLS - LEFT:
            journal.append(ask(line))
    journal.close()


def measured(phase: Callable[[Path], dict[str, Any]], out: Path) -> dict[str, Any]:
    """What a phase tells, from a new process that kept to its time and its memory."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.experiments.test_many_cells", phase.__name__, str(out)],
        capture_output=True,
        text=True,
        timeout=240,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])},
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    seconds, mib = told["seconds"], told["mib"]
    print(f"{phase.__name__}: {seconds:.1f} s, {mib:.0f} MiB")
    assert seconds < SECONDS and mib < MIB
    return told["found"]


def peak() -> float:
    """The most memory that this process has had, in MiB. `ru_maxrss` would not do: on Linux it
    begins with that of the parent, which has run other tests."""
    status = Path("/proc/self/status").read_text()
    return int(re.findall(r"VmHWM:\s+(\d+) kB", status)[0]) / 1024


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.skipif(sys.platform != "linux", reason="peak memory is read from /proc")
def test_a_hundred_thousand_cells(tmp_path):
    assert measured(planned, tmp_path) == {"lines": CELLS}
    record(tmp_path)
    half = measured(summarised, tmp_path)
    assert f"{CELLS - LEFT:,} of {CELLS:,} answered" in half["shown"]
    assert (half["missing"], half["rows"], half["cells"]) == (LEFT, CELLS - LEFT, CELLS - LEFT)
    assert half["choices"] == [10_000] * 9 + [10_000 - LEFT]
    assert measured(resumed, tmp_path) == {"asked": LEFT, "done": True}
    whole = measured(summarised, tmp_path)
    assert ", done, in" in whole["shown"]
    assert (whole["missing"], whole["rows"], whole["cells"]) == (0, CELLS, CELLS)
    assert whole["choices"] == [10_000] * 10


if __name__ == "__main__":
    begun = time.monotonic()
    found = {"planned": planned, "resumed": resumed, "summarised": summarised}[sys.argv[1]](
        Path(sys.argv[2])
    )
    told = {"found": found, "seconds": time.monotonic() - begun, "mib": peak()}
    print(json.dumps(told))
