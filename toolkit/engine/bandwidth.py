"""How fast this machine reads memory: the limit of decoding on a CPU."""

from __future__ import annotations

import concurrent.futures
import functools
import statistics
import time
from collections.abc import Callable

import numpy as np

from toolkit.kernels.processor import cores

SIZE = 2**28
"""Bytes that are read: more than a processor's caches hold."""
PASSES = 3
WAYS: tuple[Callable[[np.ndarray], object], ...] = (np.sum, np.max)
"""What reads: on one processor both are as fast, on another the sum is half as fast."""


class Memory:
    """A buffer in pages of 2 MiB where the system has them, and a thread for each core to read a
    part of it."""

    def __init__(self, size: int, threads: int):
        self._size = size
        self._parts = np.array_split(np.ones(size // 4, np.float32), threads)
        self._threads = concurrent.futures.ThreadPoolExecutor(threads)

    def read(self, passes: int) -> float:
        """Bytes a second, the median of some passes over the buffer in the fastest way."""
        return max(self._size / statistics.median(self._timed(way, passes)) for way in WAYS)

    def close(self) -> None:
        """Let the threads go."""
        self._threads.shutdown()

    def _timed(self, way: Callable[[np.ndarray], object], passes: int) -> list[float]:
        seconds = []
        for _ in range(passes):
            began = time.perf_counter()
            list(self._threads.map(way, self._parts))
            seconds.append(time.perf_counter() - began)
        return seconds


@functools.cache
def read_bandwidth() -> float:
    """Bytes a second that all cores together read, measured once a process in about 0.2 s."""
    memory = Memory(SIZE, cores())
    speed = memory.read(PASSES)
    memory.close()
    return speed
