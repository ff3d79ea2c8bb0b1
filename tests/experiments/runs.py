"""What tests of runs share: a toy model on disk, small declarations, runs that are equal."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from tests.contract import toys
from tests.oracle.toy import write_toy
from toolkit.experiments.run import TIMES, Run

ROWS = 4
COMMAND = [sys.executable, "-m", "toolkit"]


def write_model(folder: Path) -> Path:
    """The contract's toy as a folder."""
    return write_toy(folder, toys.table(), toys.VOCABULARY, context=toys.CONTEXT)


def declare(path: Path, model: Path, **fields: Any) -> Path:
    """A declaration of twelve cells, with changes."""
    declared = {
        "models": [{"model": str(model), "name": "toy", "max_batch": ROWS}],
        "prompts": ["a", "R"],
        "parameters": {"max_tokens": 6, "logprobs": 2, "details": True},
        "grid": {"temperature": [0, 0.8]},
        "seeds": 3,
    }
    path.write_text(yaml.safe_dump(declared | fields))
    return path


def toolkit(*words: str | Path, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """The command, to its end."""
    root = str(Path(__file__).parents[2])
    return subprocess.run(
        [*COMMAND, *map(str, words)],
        capture_output=True,
        text=True,
        timeout=240,
        cwd=cwd,
        env=os.environ | {"PYTHONPATH": root},
    )


def assert_equal(a: Run, b: Run) -> None:
    """All that does not depend on the clock is equal, bit for bit."""
    timeless = [frame.requests.drop(columns=list(TIMES)) for frame in (a, b)]
    for one, other in (timeless, (a.tokens, b.tokens), (a.candidates, b.candidates)):
        pd.testing.assert_frame_equal(one, other, check_exact=True)
