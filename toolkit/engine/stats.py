"""What an engine has done so far."""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import logging
import time
from collections.abc import Iterator

log = logging.getLogger("toolkit.engine")


@dataclasses.dataclass
class Stats:
    """Counters of one engine. `compiles` counts programs by name, with the seconds they took."""

    traces: collections.Counter[str]
    compiles: list[tuple[str, float]] = dataclasses.field(default_factory=list)
    generated: int = 0
    """Tokens drawn for requests."""
    prefilled: int = 0
    """Prompt tokens computed."""
    reused: int = 0
    """Prompt tokens found in the prefix cache."""
    steps: int = 0
    """Decode steps."""

    @contextlib.contextmanager
    def watch(self, program: str) -> Iterator[None]:
        """Note a compilation if the call inside makes one, and say so in the log."""
        before, began = sum(self.traces.values()), time.perf_counter()
        yield
        if sum(self.traces.values()) > before:
            seconds = time.perf_counter() - began
            self.compiles.append((program, seconds))
            log.info("compiled %s in %.1f s; later calls of this shape reuse it", program, seconds)

    def __repr__(self) -> str:
        seconds = sum(s for _, s in self.compiles)
        return (
            f"{self.generated} tokens generated in {self.steps} steps, "
            f"{self.prefilled} prompt tokens computed, {self.reused} reused, "
            f"{len(self.compiles)} compilations ({seconds:.1f} s)"
        )
