"""How fast memory can be read here, now: the yardstick of every engine."""

from __future__ import annotations

import concurrent.futures
import statistics
import time
from typing import Any

import numpy as np


class Engine:
    """A buffer as large as the weights, and a thread for each core to sum a part of it.

    NumPy's sum of contiguous float32 reads as fast as anything tried in its place (`max`, `dot`,
    XLA's sum).
    """

    def __init__(self, *, size: int, threads: int):
        self.parts = np.array_split(np.ones(size // 4, np.float32), threads)
        self.size = size
        self.threads = concurrent.futures.ThreadPoolExecutor(threads)

    def read(self, passes: int) -> dict[str, Any]:
        """Bytes a second, the median of some passes over the whole buffer."""
        seconds = []
        for _ in range(passes):
            began = time.perf_counter()
            list(self.threads.map(np.sum, self.parts))
            seconds.append(time.perf_counter() - began)
        return {"bandwidth": self.size / statistics.median(seconds)}
