"""One connection of waitress: says no in JSON, knows when its client is stuck, and parts politely
when the server closes."""

from __future__ import annotations

import http
import time
from typing import TYPE_CHECKING, Any

from waitress.channel import HTTPChannel
from waitress.parser import HTTPRequestParser
from waitress.task import ErrorTask, Task, WSGITask

from toolkit.server.client import DRAINING, NOTE_RUN
from toolkit.server.reply import refusal

if TYPE_CHECKING:
    from toolkit.completion.run import Run

BACKLOG = 8192
"""Most events of a run that may wait behind a client that does not read."""


class Parser(HTTPRequestParser):
    """A request as it arrives."""

    begun = False
    """Whether some of it had arrived when the server began to close."""


class _Parting(Task):
    """Ends the connection after the answer once the server closes."""

    def build_response_header(self) -> Any:
        channel: Any = self.channel
        if channel.server.draining:
            request: Any = self.request
            request.headers["CONNECTION"] = "close"  # as if the client had asked for it
        return super().build_response_header()


class _Refusal(_Parting, ErrorTask):
    """What waitress itself refuses, before the application sees it, in the shape of its route."""

    def execute(self) -> None:
        request: Any = self.request
        error, path = request.error, getattr(request, "path", "")  # none in a head without sense
        # The others are 431 and 501: mistakes of a client, for which the routes have one status.
        known = error.code if error.code in (413, 500) else 400
        body = refusal(path, known, f"{error.reason}: {error.body}.")
        self.status = f"{known} {http.HTTPStatus(known).phrase}"
        self.response_headers = [("Content-Type", "application/json")]
        self.content_length = len(body)
        self.set_close_on_finish()
        self.write(body)


class _Answer(_Parting, WSGITask):
    """What the application answers."""

    began = 0.0
    run: Run | None = None

    def service(self) -> None:
        self.began = time.monotonic()
        channel: Any = self.channel
        channel.answer = self
        try:
            super().service()
        finally:
            self.run = None

    def get_environment(self) -> dict[str, Any]:
        """WSGI's environment, and what the application cannot know by itself."""
        environ: dict[str, Any] = super().get_environment()
        channel: Any = self.channel
        request: Any = self.request
        environ[DRAINING] = channel.server.draining and not request.begun
        environ[NOTE_RUN] = self._note_run
        return environ

    def _note_run(self, run: Run) -> None:
        self.run = run

    def hopeless(self, limit: float | None) -> bool:
        """Whether an answer that cannot be written has used up its time, or holds too much."""
        late = limit is not None and time.monotonic() - self.began > limit
        return late or (self.run is not None and self.run.behind > BACKLOG)


class Channel(HTTPChannel):
    """A connection."""

    task_class = _Answer
    error_task_class = _Refusal
    parser_class = Parser

    answer: _Answer | None = None
    """The newest."""

    @property
    def busy(self) -> bool:
        """Whether a request is being answered, or its head has arrived, or its answer has not
        left."""
        arriving: Any = self.request  # first: it is put among the requests before it is forgotten
        received = arriving is not None and arriving.headers_finished
        return bool(received or self.requests or self.total_outbufs_len)

    def note_begun(self) -> None:
        """Mark what has arrived by now, if only in part."""
        channel: Any = self
        with channel.requests_lock:
            for request in [*channel.requests, channel.request]:
                if request is not None:
                    request.begun = True

    def stuck(self, limit: float | None) -> bool:
        """Whether the client does not read what is sent to it, and has had its time.

        While an answer runs, its thread is only kept waiting by a buffer that is full. `limit`:
        seconds that an answer may take; None for any.
        """
        adjustments: Any = self.adj
        with self.outbuf_lock:  # whoever writes has tried to send before it lets go
            room = adjustments.outbuf_high_watermark if self.requests else 0
            if self.total_outbufs_len <= room:
                return False
            idle = time.time() - self.last_activity
        answer = self.answer if self.requests else None
        hopeless = answer is not None and answer.hopeless(limit)
        return hopeless or idle > adjustments.channel_timeout
