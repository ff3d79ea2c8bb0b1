"""What a run of the suite is told."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import Any, Literal, TypeVar

ROOT = Path(__file__).parents[2]
"""The repository; workers are started here."""
RESULTS = ROOT / "experiments/benchmarks/results"

Size = Literal["check", "default", "full"]
T = TypeVar("T")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings:
    """One run of the suite, the same for every engine."""

    model: str | None = None
    """As in `toolkit.load`."""
    peers: Path | None = None
    """The peers' Python; None is the one in `.venv-peers`, which is made if it is not there."""
    threads: int
    """Cores that the whole run is held to, and threads of every engine."""
    rounds: int | None = None
    """None is each scenario's own number."""
    size: Size = "default"
    """`check` shows in a minute or two that everything runs, its figures mean nothing; `default`
    takes 15 minutes on two cores; `full` is longer and steadier."""
    tiny: bool = False
    """GPU scenarios only: a toy model on whatever device there is."""
    out: Path = RESULTS

    def pick(self, *, check: T, default: T, full: T) -> T:
        """What belongs to the size of this run."""
        return {"check": check, "default": default, "full": full}[self.size]

    def turns(self, default: int) -> int:
        """Rounds of a scenario whose own number is `default`."""
        if self.rounds is not None:
            return self.rounds
        return self.pick(check=1, default=default, full=max(7, default))

    @property
    def publishable(self) -> bool:
        """Whether the documents may be written from this run without being asked."""
        usual = Settings(threads=self.threads, peers=self.peers)
        return self in (usual, dataclasses.replace(usual, size="full"))

    def facts(self) -> dict[str, Any]:
        """What belongs into a report: no paths of the machine."""
        hidden = ("model", "peers", "out", "rounds", "tiny")
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
