"""A thread for what takes long, so that buttons answer meanwhile.

Callbacks of widgets run on a thread of the kernel, one after the other. Work that ran there would
keep the click on Stop waiting until it is over.
"""

from __future__ import annotations

import collections
import threading
from collections.abc import Callable

Watch = Callable[[], None]
"""Call it now and then: it raises Stopped once the work shall end."""
Work = Callable[[Watch], None]


class Stopped(Exception):
    """Ends what runs; what it has done by then is kept."""


class Worker:
    """Does work in order on one thread, which lives only while there is some.

    `failed` hears of each exception, and `settled` is called once nothing waits any more; both on
    that thread.
    """

    def __init__(self, failed: Callable[[Exception], None], settled: Callable[[], None]):
        self._failed = failed
        self._settled = settled
        self._waiting: collections.deque[tuple[Work, bool]] = collections.deque()
        self._change = threading.Condition()
        self._stop = threading.Event()
        self._runs = False
        self._long = False

    def do(self, work: Work, *, long: bool = False) -> None:
        """Queue work. What runs is stopped if it is `long`: the newer wish counts."""
        with self._change:
            if self._long:
                self._stop.set()
            self._waiting.append((work, long))
            if not self._runs:
                self._runs = True
                threading.Thread(target=self._run, name="toolkit-widget", daemon=True).start()

    def stop(self) -> None:
        """End what runs and forget what waits."""
        with self._change:
            self._waiting.clear()
            self._stop.set()

    @property
    def busy(self) -> bool:
        """Whether something runs or waits."""
        return self._runs

    def wait(self) -> None:
        """Until nothing runs and nothing waits. Not from the worker's own thread."""
        with self._change:
            self._change.wait_for(lambda: not self._runs)

    def _run(self) -> None:
        settled = True
        while True:
            with self._change:
                if settled and not self._waiting:
                    self._runs = self._long = False
                    self._change.notify_all()
                    return
                work, self._long = self._waiting.popleft() if self._waiting else (None, False)
                self._stop.clear()
            settled = work is None
            self._try(work)

    def _try(self, work: Work | None) -> None:
        try:
            if work is None:
                self._settled()
            else:
                work(self._watch)
        except Stopped:
            return
        except Exception as error:  # nobody else would see it: callbacks have no reader
            self._failed(error)

    def _watch(self) -> None:
        if self._stop.is_set():
            raise Stopped
