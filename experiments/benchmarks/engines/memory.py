"""How fast memory can be read here, now: the yardstick of every engine."""

from __future__ import annotations

from typing import Any

from toolkit.engine.bandwidth import Memory


class Engine:
    """A buffer as large as the weights."""

    def __init__(self, *, size: int, threads: int):
        self.memory = Memory(size, threads)

    def read(self, passes: int) -> dict[str, Any]:
        """Bytes a second, the median of some passes over the whole buffer."""
        return {"bandwidth": self.memory.read(passes)}
