"""What an engine has done so far."""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import logging
import time
from collections.abc import Iterator

from toolkit.engine.bandwidth import read_bandwidth
from toolkit.engine.programs import programs_read, programs_traced

log = logging.getLogger("toolkit.engine")


@dataclasses.dataclass
class Stats:
    """Counters of one engine. `compiles` names the programs with the seconds that each took to
    compile, or to read from disk."""

    reads_memory: bool = True
    """Whether the weights lie in the memory that `read_bandwidth` measures (CPU)."""
    compiles: list[tuple[str, float]] = dataclasses.field(default_factory=list)
    from_disk: int = 0
    """Of these the programs that were read from disk, where an earlier process left them."""
    buckets: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)
    """Decode steps by the size of the batch, "16x512": rows times slots of the cache."""
    generated: int = 0
    """Tokens drawn for requests."""
    prefilled: int = 0
    """Prompt tokens computed."""
    reused: int = 0
    """Prompt tokens found in the prefix cache."""
    steps: int = 0
    """Decode steps."""
    decode_seconds: float = 0.0
    """Time that decode steps took, those that were compiled left out."""
    decoded: int = 0
    """Tokens that came out of them."""
    read_bytes: int = 0
    """Weights and cache that they read, each once a step."""

    @property
    def tokens_per_second(self) -> float | None:
        """Of all rows together while decoding; None before the first step."""
        return self.decoded / self.decode_seconds if self.decode_seconds else None

    @property
    def share_of_bandwidth(self) -> float | None:
        """Share of this machine's read bandwidth that decoding used; None before the first step and
        off the CPU. The first call measures the bandwidth in about 0.2 s."""
        if not (self.reads_memory and self.decode_seconds):
            return None
        return self.read_bytes / self.decode_seconds / read_bandwidth()

    @contextlib.contextmanager
    def watch(self, program: str) -> Iterator[None]:
        """Note a compilation if the call inside makes one, and say so in the log."""
        before, began, read = programs_traced(), time.perf_counter(), programs_read()
        yield
        if programs_traced() > before:
            found = programs_read() > read
            self.note(program, time.perf_counter() - began, found=found, why="the first call")

    def note(self, program: str, seconds: float, *, found: bool, why: str) -> None:
        """A program that was compiled, or `found` on disk."""
        self.compiles.append((program, seconds))
        self.from_disk += found
        log.info(
            "%s %s in %.1f s: %s of this shape. Later calls reuse it, other processes find it on "
            "disk; values of parameters never compile",
            "read" if found else "compiled",
            program,
            seconds,
            why,
        )

    def __repr__(self) -> str:
        seconds = sum(s for _, s in self.compiles)
        speed, share = self.tokens_per_second, self.share_of_bandwidth
        buckets = ", ".join(f"{name} ({count})" for name, count in self.buckets.items())
        return ", ".join(
            [
                f"{self.generated} tokens generated in {self.steps} steps",
                *([f"{speed:.1f} tokens/s"] if speed else []),
                *([f"{share:.0%} of memory bandwidth"] if share else []),
                f"{self.prefilled} prompt tokens computed, {self.reused} found in the prefix cache",
                *([f"steps in buckets of rows x slots: {buckets}"] if buckets else []),
                f"{len(self.compiles)} programs compiled or read ({seconds:.1f} s), "
                f"{self.from_disk} of them found on disk",
            ]
        )
