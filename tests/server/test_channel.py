"""Connections that do not read, and what is said to those that are open while a server closes."""

from __future__ import annotations

import json
import logging
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from tests.server.conftest import LEGACY, STRICT
from toolkit.completion.complete import LM
from toolkit.server import Server, channel, create_app, serve
from toolkit.server.channel import Channel

MODULE = sys.modules[Server.__module__]
"""`toolkit.server.serve` itself, whose name the function of the same name hides."""

FLOOD = {"prompt": "x", "max_tokens": 4000, "n": 8, "ignore_eos": True, "logprobs": 20, "seed": 1}
"""Tens of megabytes as a stream."""


def eventually(what: Callable[[], object]) -> None:
    """Wait until something holds. Programs may have to be compiled first."""
    deadline = time.monotonic() + 100
    while not what():
        assert time.monotonic() < deadline
        threading.Event().wait(0.002)


def post(path: str, body: dict[str, Any]) -> bytes:
    text = json.dumps(body).encode()
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(text)}\r\n\r\n"
    return head.encode() + text


def answer(connection: socket.socket) -> tuple[bytes, bytes]:
    """Head and body of all that comes."""
    whole = b"".join(iter(lambda: connection.recv(65536), b""))
    head, _, body = whole.partition(b"\r\n\r\n")
    return head, body


@pytest.fixture
def place(long: LM, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Server, Any]]:
    """A server that looks at its connections often, with little room for a stream, and its
    guard."""
    monkeypatch.setattr(MODULE, "SWEEP", 0.005)
    monkeypatch.setattr(MODULE, "UNREAD", 2**14)
    app = create_app(long, max_requests=2, request_timeout=600)
    guard = app.before_request_funcs[None][0].__self__.guard  # type: ignore[attr-defined]
    with Server(app, host="127.0.0.1", port=0, max_requests=2) as server:
        yield server, guard


@pytest.mark.parametrize("reason", ["time", "backlog"])
def test_client_that_never_reads_its_stream_is_cut_off(
    place: tuple[Server, Any],
    busy: Callable[[], int],
    reason: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
):
    server, guard = place
    with (
        caplog.at_level(logging.INFO, logger="toolkit.server"),
        socket.create_connection((server.host, server.port)) as connection,
    ):
        connection.sendall(post(LEGACY, {**FLOOD, "stream": True}))
        eventually(
            lambda: any(c.total_outbufs_len > 2**14 and c.requests for c in server._channels())
        )
        assert guard._inside == 1
        if reason == "time":  # as if that many seconds had gone by
            server._limit = 1e-9
        else:
            monkeypatch.setattr(channel, "BACKLOG", 50)
        eventually(lambda: guard._inside == 0)
        eventually(lambda: busy() == 0)
        assert not server._channels()
        lines = lambda: [r.getMessage() for r in caplog.records if r.name == "toolkit.server"]  # noqa: E731
        eventually(lines)
    (line,) = lines()
    assert f"POST {LEGACY} 499" in line


@pytest.mark.parametrize(
    ("length", "idle", "requests", "stuck"),
    [
        (5, 61, [], True),  # the answer is over, its end is not fetched
        (5, 59, [], False),
        (0, 61, [], False),  # waitress itself closes these
        (1001, 61, ["one"], True),
        (1000, 61, ["one"], False),  # no thread is kept waiting
        (1001, 59, ["one"], False),
    ],
)
def test_client_is_stuck_when_it_takes_nothing_for_long(
    length: int, idle: float, requests: list[Any], stuck: bool
):
    made = object.__new__(Channel)
    made.adj = SimpleNamespace(outbuf_high_watermark=1000, channel_timeout=60)
    made.outbuf_lock = threading.Condition()
    made.requests, made.total_outbufs_len = requests, length
    made.last_activity = time.time() - idle  # type: ignore[assignment]
    assert made.stuck(None) is stuck


def test_closing_server_says_so_to_open_connections(long: LM, busy: Callable[[], int]):
    server = serve(long)
    where = (server.host, server.port)
    kept = [socket.create_connection(where, timeout=100) for _ in range(4)]
    for connection in kept:
        connection.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
        taken = b""
        while not taken.endswith(b'{"status":"ok"}'):
            taken += connection.recv(65536)
    running = socket.create_connection(where)
    running.sendall(post(LEGACY, {**FLOOD, "n": 1}))
    eventually(lambda: busy() == 1)
    closing = threading.Thread(target=server.close)
    closing.start()
    eventually(lambda: server._waitress.draining)
    for connection, path, keys in [
        (kept[0], LEGACY, ["error"]),
        (kept[1], STRICT, ["status", "title", "detail"]),
    ]:
        connection.sendall(post(path, {"prompt": "A", "model": "long"}))
        head, body = answer(connection)
        assert head.startswith(b"HTTP/1.1 503 ")
        assert b"Retry-After: 10" in head and b"Connection: close" in head
        assert list(json.loads(body)) == keys
        assert "takes no more work" in body.decode()
    for connection, path, status in [(kept[2], "/health", 503), (kept[3], "/v1/models", 200)]:
        connection.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        head, _ = answer(connection)
        assert head.startswith(f"HTTP/1.1 {status}".encode())
        assert b"Connection: close" in head
    assert busy() == 1
    for connection in [running, *kept]:
        connection.close()
    closing.join()


def test_closing_server_answers_a_request_that_was_half_received(long: LM):
    server = serve(long)
    whole = post(LEGACY, {"prompt": "A"})
    with socket.create_connection((server.host, server.port), timeout=100) as connection:
        connection.sendall(whole[:-3])
        eventually(lambda: any(c.busy for c in server._channels()))
        closing = threading.Thread(target=server.close)
        closing.start()
        eventually(lambda: server._waitress.draining)
        connection.sendall(whole[-3:])
        head, body = answer(connection)
    closing.join()
    assert head.startswith(b"HTTP/1.1 200") and b"Connection: close" in head
    assert json.loads(body)["choices"][0]["text"] == "one two three"
