"""The peers' own virtual environment: what they need must not enter the project's lock."""

from __future__ import annotations

import subprocess
import sys
import venv
from importlib.metadata import version
from pathlib import Path

from experiments.benchmarks.settings import ROOT

FOLDER = ROOT / ".venv-peers"


def interpreter() -> Path:
    """The Python of the peers' environment, which is made first if it is not there.

    The packages are installed one by one: a peer that cannot be built here is left out of the run,
    which then says so, and the others run.
    """
    python = FOLDER / "bin/python"
    ready = FOLDER / "ready"
    if not ready.exists():
        print(f"Installing the peers into {FOLDER.name}; llama-cpp-python is compiled", flush=True)
        venv.create(FOLDER, clear=True, with_pip=True)
        for requirement in requirements():
            pip = [python, "-m", "pip", "install", "--quiet", requirement]
            if subprocess.run(pip, check=False).returncode:
                print(f"{requirement} could not be installed; it is left out", file=sys.stderr)
        ready.touch()
    return python


def requirements() -> tuple[str, ...]:
    """The peers' packages; transformers in the version that the toolkit itself uses."""
    return (
        "torch==2.13.0",
        f"transformers[serving]=={version('transformers')}",
        "llama-cpp-python[server]==0.3.36",
    )
