"""How fast this machine reads memory: the limit of decoding on a CPU."""

from __future__ import annotations

import concurrent.futures
import functools
import os
import statistics
import time

import numpy as np

SIZE = 2**28
"""Bytes that are read: more than a processor's caches hold."""
PASSES = 3


@functools.cache
def read_bandwidth() -> float:
    """Bytes a second that all cores together read, measured once a process in about 0.2 s."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    parts = np.array_split(np.ones(SIZE // 4, np.float32), cores or 1)
    seconds = []
    with concurrent.futures.ThreadPoolExecutor(len(parts)) as threads:
        for _ in range(PASSES):
            began = time.perf_counter()
            list(threads.map(np.sum, parts))
            seconds.append(time.perf_counter() - began)
    return SIZE / statistics.median(seconds)
