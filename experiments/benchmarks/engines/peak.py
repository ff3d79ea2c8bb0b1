"""How much memory a piece of work needed on top of what the process held before."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

STATUS, RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")


@contextlib.contextmanager
def peak() -> Iterator[Callable[[], int | None]]:
    """Gives a function that tells the growth so far in bytes; None where the system cannot say.

    Linux keeps the largest resident size of a process, and forgets it when told to.
    """
    before = _kilobytes("VmRSS")
    if before is not None:
        try:
            RESET.write_text("5", encoding="ascii")
        except OSError:
            before = None

    def growth() -> int | None:
        largest = _kilobytes("VmHWM")
        return None if before is None or largest is None else 1024 * max(0, largest - before)

    yield growth


def _kilobytes(field: str) -> int | None:
    with contextlib.suppress(OSError, ValueError):
        for line in STATUS.read_text(encoding="ascii").splitlines():
            if line.startswith(f"{field}:"):
                return int(line.split()[1])
    return None
