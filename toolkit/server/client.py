"""Who is asking: whether the client is still there, and which key it sent."""

from __future__ import annotations

import socket
from collections.abc import Callable, Mapping
from typing import Any

DRAINING = "toolkit.draining"
"""In WSGI's environment: whether the server closes, and this request came too late."""
NOTE_RUN = "toolkit.note_run"
"""In WSGI's environment: takes the run of the request, if the server watches over it."""

_SOCKETS = ("werkzeug.socket", "gunicorn.socket")


class ClientGone(Exception):
    """Nobody waits for the answer any more. Raised and caught inside this room."""


def gone_check(environ: Mapping[str, Any]) -> Callable[[], bool]:
    """A function that tells whether the client of a request has closed its connection.

    Waitress watches the connection itself; under werkzeug and gunicorn the socket is asked. Any
    other server gives no handle, and a client that left is noticed at the next write.
    """
    check = environ.get("waitress.client_disconnected")
    if check is not None:
        return check
    connection = next((environ[name] for name in _SOCKETS if name in environ), None)
    return lambda: connection is not None and _closed(connection)


def _closed(connection: socket.socket) -> bool:
    try:
        return connection.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT) == b""
    except (BlockingIOError, ValueError):  # nothing to read yet; TLS does not let one peek
        return False
    except OSError:
        return True


def bearer(environ: Mapping[str, Any]) -> bytes | None:
    """The key of an `Authorization: Bearer` header as the client sent it; None without one."""
    scheme, _, key = environ.get("HTTP_AUTHORIZATION", "").partition(" ")
    # WSGI gives the bytes of a header as Latin-1, where U+0085 and U+00A0 are halves of letters.
    return key.strip(" \t").encode("latin-1", "replace") if scheme.lower() == "bearer" else None
