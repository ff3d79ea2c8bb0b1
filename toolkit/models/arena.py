"""Memory for weights, handed out in order from large blocks.

Why large: Linux gives pages of 2 MiB to what NumPy allocates in one piece of 4 MiB or more, and
pages of 4 KiB to the rest. Decoding reads every weight once a step, so that looking up small pages
costs it a sixth of its time. Blocks begin where such a page does.
"""

from __future__ import annotations

import math
import threading

import numpy as np

BLOCK = 2**26
"""Bytes allocated at one time; a larger array gets a block of its own."""
PAGE = 2**21
ALIGNMENT = 64
"""Bytes that an array's address is a multiple of: JAX adopts such memory on CPU without a copy."""


class Arena:
    """Uninitialised arrays, side by side; a block lives as long as one of its arrays. Any thread
    may ask."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._rest = np.empty(0, np.uint8)

    def empty(self, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
        """An array that begins at a multiple of 64 bytes."""
        size = math.prod(shape) * dtype.itemsize
        with self._lock:
            if size > self._rest.size:
                room = max(size, BLOCK)
                block = np.empty(room + PAGE, np.uint8)
                page = -block.ctypes.data % PAGE
                self._rest = block[page : page + room]
            taken, self._rest = self._rest[:size], self._rest[size + -size % ALIGNMENT :]
        return taken.view(dtype).reshape(shape)
