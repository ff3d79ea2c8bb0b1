"""What a run of the suite is told."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
"""The repository; workers are started here."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings:
    """One run of the suite, the same for every engine."""

    model: str | None = None
    """As in `toolkit.load`."""
    peers: Path | None = None
    """The peers' Python; None is the one in `.venv-peers`, which is made if it is not there."""
    threads: int
    """Cores that the whole run is held to, and threads of every engine."""
    rounds: int = 7
    prompt_tokens: int = 32
    new_tokens: int = 64
    out: Path = ROOT / "experiments/benchmarks/results"

    def facts(self) -> dict[str, Any]:
        """What belongs into a report: no paths of the machine."""
        hidden = ("model", "peers", "out")
        return {k: v for k, v in dataclasses.asdict(self).items() if k not in hidden}


def cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def hold_to(threads: int) -> None:
    """Hold this process and those it starts to `threads` cores and to as many OpenMP threads.

    Where the system cannot bind a process to cores, only the number of threads is the same.
    """
    os.environ["OMP_NUM_THREADS"] = str(threads)
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])
