"""One HTTP request from its arrival to its end: its place, its clock and its line in the log."""

from __future__ import annotations

import logging
import time
import urllib.parse
from collections.abc import Callable

from flask import Request

from toolkit.completion.run import Run
from toolkit.errors import EngineFault
from toolkit.server.client import NOTE_RUN, ClientGone, gone_check
from toolkit.server.guard import Guard
from toolkit.server.metrics import Metrics

log = logging.getLogger("toolkit.server")

GONE = 499
"""The status that is logged for a client that left before its answer; it is never sent."""
METHODS = frozenset(["GET", "POST", "HEAD", "OPTIONS", "PUT", "DELETE", "PATCH", "TRACE"])
"""Any other may be of a client's own making, and as long as it likes."""


class Exchange:
    """What happens around one answer. `end` may be called from several places and acts once."""

    def __init__(self, request: Request, guard: Guard, metrics: Metrics):
        self.method = request.method if request.method in METHODS else "other"
        self.route = str(request.url_rule) if request.url_rule else "unknown"
        self.path = urllib.parse.quote(request.path)[:100]
        self.run: Run | None = None
        self.fault: int | None = None
        """The status of an error that came after the first byte."""
        self._gone = gone_check(request.environ)
        self._tell = request.environ.get(NOTE_RUN)
        self._guard = guard
        self._metrics = metrics
        self._inside = False
        self._over = False
        self._began = time.perf_counter()

    def enter(self) -> None:
        """Take a place among the requests that are handled. Raises QueueFull."""
        self._guard.enter()
        self._inside = True

    def note_run(self, run: Run) -> None:
        """The completion has been queued."""
        self.run = run
        self._metrics.runs.add(run)
        if self._tell is not None:
            self._tell(run)

    def watch(self, limit: float | None) -> Callable[[], None]:
        """What a run calls while it waits: raises ClientGone, or EngineFault after `limit`
        seconds."""

        def look() -> None:
            if self._gone():
                raise ClientGone
            if limit is not None and time.perf_counter() - self._began > limit:
                raise EngineFault(
                    f"The answer took longer than the {limit:g} s that are allowed here. Ask for "
                    "fewer tokens, or ask again when the server is less busy."
                )

        return look

    def end(self, status: int) -> None:
        """Give everything back, count, and write the line."""
        if self._over:
            return
        self._over = True
        if self._inside:
            self._guard.leave()
        status = self.fault or status
        self._metrics.count_request(self.method, self.route, status)
        if self.run is not None:
            self.run.cancel()
            self._metrics.runs.discard(self.run)
            self._metrics.count_run(self.run)
        log.info("%s", self._line(status))

    def _line(self, status: int) -> str:
        name = self.run.head.id if self.run else "-"
        line = f"{name} {self.method} {self.path} {status}"
        if self.run is not None:
            usage, timings = self.run.usage, self.run.timings
            line += f" prompt={usage.prompt_tokens} completion={usage.completion_tokens}"
            line += f" queue={timings.queue:.3f}s"
            if timings.first_token is not None:
                line += f" first={timings.first_token:.3f}s"
        return f"{line} total={time.perf_counter() - self._began:.3f}s"
