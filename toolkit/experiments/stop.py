"""Ending a run early, in peace: Ctrl-C, Jupyter's Stop, or a button."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from typing import Any


class Stop:
    """Whether a run shall end. The first call lets the cells in flight finish, the second drops
    them, the third raises KeyboardInterrupt where it is called."""

    def __init__(self) -> None:
        self.asked = 0
        self._tell: Callable[[], None] = lambda: None

    def __call__(self, *_: Any) -> None:
        self.asked += 1
        self._tell()
        if self.asked > 2:
            raise KeyboardInterrupt

    @contextlib.contextmanager
    def listening(self, tell: Callable[[], None]) -> Iterator[None]:
        """Call `tell` on each request to stop, and take Ctrl-C for one while this lasts.

        A KeyboardInterrupt in the middle of a write would leave half a line, so none is raised.
        Outside the main thread Ctrl-C does not arrive, and nothing is changed.
        """
        self._tell = tell
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = signal.signal(signal.SIGINT, self)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, before)
