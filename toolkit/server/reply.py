"""What is sent: JSON, an error in the shape of its route, the events of a stream."""

from __future__ import annotations

import json
import logging
import traceback
from collections.abc import Iterator
from typing import Any

from flask import Response
from werkzeug.exceptions import HTTPException

from toolkit.completion.request import Dialect
from toolkit.completion.response import (
    error_status,
    legacy_chunk,
    legacy_error,
    legacy_error_body,
    legacy_usage_chunk,
    stream_error,
    strict_chunk,
    strict_error,
    strict_error_body,
    strict_usage_chunk,
)
from toolkit.completion.run import Run
from toolkit.errors import QueueFull, ToolkitError
from toolkit.server.client import ClientGone
from toolkit.server.exchange import GONE, Exchange

log = logging.getLogger("toolkit.server")

DONE = b"data: [DONE]\n\n"


def json_reply(body: Any, status: int = 200) -> Response:
    """A JSON response."""
    return Response(encode(body), status, mimetype="application/json")


def encode(body: Any) -> bytes:
    """JSON in ASCII. Some readers of streams take U+2028 and its like for the end of a line."""
    return json.dumps(body, allow_nan=False, separators=(",", ":")).encode()


def dialect_of(path: str) -> Dialect:
    """In whose shape errors on this path are."""
    return Dialect.STRICT if path.startswith("/v1/openai/") else Dialect.LEGACY


def refusal(path: str, status: int, message: str) -> bytes:
    """The body of an error that was found before the application saw the request."""
    strict = dialect_of(path) is Dialect.STRICT
    return encode((strict_error_body if strict else legacy_error_body)(status, message))


def error_reply(error: Exception, dialect: Dialect) -> Response:
    """The error in the shape of its route, with what HTTP wants beside it."""
    note_fault(error)
    if isinstance(error, HTTPException):
        return _http_error_reply(error, dialect)
    body = strict_error(error) if dialect is Dialect.STRICT else legacy_error(error)
    reply = json_reply(body, error_status(error))
    if isinstance(error, QueueFull):
        reply.headers["Retry-After"] = str(error.retry_after)
    return reply


def _http_error_reply(error: HTTPException, dialect: Dialect) -> Response:
    """An error that Flask found, such as a wrong method: its own status and headers, our shape."""
    status, message = error.code or 500, error.description or "The request failed."
    if dialect is Dialect.STRICT:
        reply = json_reply(strict_error_body(status, message), status)
    else:
        code = "invalid_api_key" if status == 401 else None
        reply = json_reply(legacy_error_body(status, message, code=code), status)
    for name, value in error.get_headers():
        if name in ("Allow", "WWW-Authenticate", "Retry-After"):
            reply.headers[name] = value
    return reply


def note_fault(error: Exception) -> None:
    """Log where an error of our own came from, without its message: that may quote a prompt."""
    if isinstance(error, (ToolkitError, HTTPException)):
        return
    where = "".join(traceback.format_tb(error.__traceback__))
    log.error("%s in\n%s", type(error).__name__, where.rstrip())


def events(run: Run, dialect: Dialect, exchange: Exchange, *, done: bool) -> Iterator[bytes]:
    """The stream of a run. A failure after the first byte is an event of its own, before
    `[DONE]`."""
    try:
        for body in _bodies(run, dialect):
            yield _event(body)
    except ClientGone:
        exchange.fault = GONE
        return
    except GeneratorExit:  # the server found nobody to send it to
        exchange.fault = GONE
        raise
    except Exception as error:
        note_fault(error)
        exchange.fault = error_status(error)
        yield _event(stream_error(error))
    if done:
        yield DONE


def _bodies(run: Run, dialect: Dialect) -> Iterator[Any]:
    strict, options = dialect is Dialect.STRICT, run.request.stream_options
    for delta in run.deltas():
        if strict:
            yield strict_chunk(run.head, delta)
        else:
            each = run.usage if options.continuous_usage_stats else None
            yield legacy_chunk(run.head, delta, each)
    if options.include_usage:
        usage_chunk = strict_usage_chunk if strict else legacy_usage_chunk
        yield usage_chunk(run.head, run.usage)


def _event(body: Any) -> bytes:
    return b"data: " + encode(body) + b"\n\n"
