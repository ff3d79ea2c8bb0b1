"""The application on waitress: in a thread of a notebook, or for as long as a command runs."""

from __future__ import annotations

import contextlib
import logging
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Any, Self

from flask import Flask
from waitress.server import create_server
from waitress.wasyncore import dispatcher

from toolkit.completion.complete import LM
from toolkit.server.app import MAX_BODY, create_app
from toolkit.server.channel import Channel

log = logging.getLogger("toolkit.server")

SPARE = 4
"""Threads beyond those of completions, so that /health and refusals are never kept waiting."""
MAX_REQUESTS = 128
"""Completions handled at one time, unless said otherwise. Each holds a thread."""
GRACE = 30.0
"""Seconds that running requests get to finish when a server closes."""
TICK = 0.02
"""Seconds between two looks at whether they have."""
SWEEP = 1.0
"""Seconds between two looks at whether a client has stopped reading."""
IDLE = 60
"""Seconds after which a connection without a request, or with half of one, is closed."""
UNREAD = 2**20
"""Bytes of a stream that may wait for its client; then the thread that sends it waits."""


class Server:
    """A running server; leaving its `with` block or `close()` ends it. `url` is where it answers.

    The models stay open: whoever loaded them closes them.
    """

    def __init__(self, app: Flask, *, host: str, port: int, max_requests: int):
        listener = _listen(host, port)
        self.host, self.port = listener.getsockname()[:2]
        self._waitress: Any = create_server(
            app,
            sockets=[listener],
            threads=max_requests + SPARE,
            # Lets waitress read on while a request runs, and so see that its client has left.
            channel_request_lookahead=1,
            connection_limit=4 * (max_requests + SPARE) + 100,
            channel_timeout=IDLE,
            cleanup_interval=IDLE // 6,
            outbuf_high_watermark=UNREAD,
            asyncore_use_poll=True,
            # Above the application's own limit, which answers in the shape of the route.
            max_request_body_size=8 * MAX_BODY,
            ident="completion-toolkit",
            expose_tracebacks=False,
        )
        self._waitress.channel_class = Channel
        self._waitress.draining = False
        self._limit: float | None = app.config.get("REQUEST_TIMEOUT")
        self._closed = threading.Event()
        self._thread = threading.Thread(
            target=self._waitress.run, name="toolkit-server", daemon=True
        )
        self._thread.start()
        self._sweeper = threading.Thread(
            target=self._sweep, name="toolkit-server-sweep", daemon=True
        )
        self._sweeper.start()

    @property
    def url(self) -> str:
        """The root of all routes, without a slash at its end."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.port}"

    def close(self, grace: float = GRACE) -> None:
        """Take no more connections, let what runs finish for `grace` seconds, then cut it off.

        A request of which a part had arrived is answered; later completions, on connections that
        were open, get 503. Every answer ends its connection. May be called twice.
        """
        if not self._thread.is_alive():
            return
        self._in_loop(self._drain)
        deadline = time.monotonic() + grace
        while self._busy() and time.monotonic() < deadline:
            self._thread.join(TICK)
        self._closed.set()
        self._sweeper.join(GRACE)
        self._in_loop(self._disconnect)
        self._waitress.task_dispatcher.shutdown()
        with contextlib.suppress(OSError):  # the loop may have ended by itself and closed it
            self._in_loop(self._waitress.trigger.close)  # nobody is left to pull it
        self._thread.join(GRACE)

    def _drain(self) -> None:
        dispatcher.close(self._waitress)  # the listening socket only
        for channel in self._channels():
            channel.note_begun()
        self._waitress.draining = True

    def _sweep(self) -> None:
        """Cut off who holds a thread or memory by not reading. Such a thread cannot see the time
        itself."""
        while self._thread.is_alive() and not self._closed.wait(SWEEP):
            for channel in self._channels():
                if channel.stuck(self._limit):
                    with contextlib.suppress(OSError):  # the loop may have ended by itself
                        self._in_loop(channel.handle_close)

    def _in_loop(self, act: Callable[[], object]) -> None:
        """Run something on the thread that owns the sockets."""
        self._waitress.trigger.pull_trigger(act)

    def _channels(self) -> list[Channel]:
        return list(self._waitress.active_channels.copy().values())

    def _busy(self) -> bool:
        return any(channel.busy for channel in self._channels())

    def _disconnect(self) -> None:
        for channel in self._channels():
            channel.handle_close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Server {self.url}{'' if self._thread.is_alive() else ', closed'}>"


def serve(
    lms: LM | Iterable[LM],
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    max_requests: int = MAX_REQUESTS,
    **options: Any,
) -> Server:
    """Serve one model or several from a thread of this process.

    `port` 0 takes a free one. `max_requests`: completions handled at one time. `options`: those of
    `create_app`. Close the server, or use it in a `with` block.
    """
    app = create_app(lms, max_requests=max_requests, **options)
    return Server(app, host=host, port=port, max_requests=max_requests)


def run(server: Server, grace: float = GRACE) -> None:
    """Wait for Ctrl-C or SIGTERM, then let what runs finish. A second signal ends it at once."""
    stop = threading.Event()
    for name in (signal.SIGINT, signal.SIGTERM):
        signal.signal(name, lambda *_: stop.set())
    stop.wait()
    for name in (signal.SIGINT, signal.SIGTERM):
        signal.signal(name, signal.SIG_DFL)
    log.info("no more connections; what runs may finish within %g s", grace)
    server.close(grace)


def _listen(host: str, port: int) -> socket.socket:
    """A socket bound to the first address that the name stands for."""
    if not 0 <= port <= 65535:  # the system would take the rest of a division
        raise ValueError(f"`port` must be in [0, 65535], got {port}. Use 0 for a free one.")
    family, kind, protocol, _, address = socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
    except OSError:
        listener.close()
        raise
    return listener
