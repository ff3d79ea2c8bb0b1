"""A real server on a real socket: streams, clients that leave, slow and half bodies, shutdown."""

from __future__ import annotations

import json
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator

import httpx2
import pytest

from tests.server.conftest import LEGACY, STRICT
from toolkit.completion.complete import LM
from toolkit.server import Server, serve

ENDLESS = {"prompt": "x", "max_tokens": 3000, "ignore_eos": True, "seed": 1}
"""Takes a toy model seconds."""


@pytest.fixture(scope="module")
def slow(long: LM) -> Iterator[Server]:
    """The model with a long context, served."""
    with serve(long) as running:
        yield running


def raw(server: Server, text: bytes) -> socket.socket:
    """A connection on which some bytes were sent."""
    connection = socket.create_connection((server.host, server.port), timeout=100)
    connection.sendall(text)
    return connection


def post(path: str, body: bytes, *, length: int | None = None) -> bytes:
    """A request as bytes."""
    count = len(body) if length is None else length
    return f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {count}\r\n\r\n".encode() + body


def becomes(count: int, busy: Callable[[], int]) -> None:
    """Wait until the batch has this many sequences. Programs may have to be compiled first."""
    deadline = time.monotonic() + 100
    while busy() != count:
        assert time.monotonic() < deadline, f"{busy()} sequences run, not {count}"
        threading.Event().wait(0.002)


def test_stream_flushes_each_event_at_once(slow: Server, busy: Callable[[], int]):
    with httpx2.stream(
        "POST", slow.url + LEGACY, json={**ENDLESS, "stream": True}, timeout=100
    ) as reply:
        lines = reply.iter_lines()
        assert json.loads(next(lines).removeprefix("data: "))["choices"][0]["index"] == 0
        assert busy() == 1, "the first event arrived while the sequence still ran"
    becomes(0, busy)


@pytest.mark.parametrize("stream", [True, False])
def test_case_103_client_that_leaves_frees_its_rows(
    slow: Server, long: LM, busy: Callable[[], int], stream: bool
):
    body = json.dumps({**ENDLESS, "n": 3, "stream": stream}).encode()
    connection = raw(slow, post(LEGACY, body))
    becomes(3, busy)
    connection.close()
    steps = long.stats().steps
    becomes(0, busy)
    assert long.stats().steps - steps < 1500, "far from the end, at 3000"
    answer = httpx2.post(slow.url + LEGACY, json={"prompt": "A"}, timeout=100).json()
    assert answer["choices"][0]["text"] == "one two three"


def test_case_103_client_that_leaves_while_it_waits_is_never_seated(
    slow: Server, long: LM, busy: Callable[[], int]
):
    running = raw(slow, post(LEGACY, json.dumps({**ENDLESS, "n": 8}).encode()))
    becomes(8, busy)
    waiting = raw(slow, post(LEGACY, json.dumps({**ENDLESS, "prompt": "y"}).encode()))
    queue = lambda: len(long.engine._scheduler.waiting) + len(long.engine._inbox)  # noqa: E731
    becomes(1, queue)
    waiting.close()
    becomes(0, queue)
    assert busy() == 8
    running.close()
    becomes(0, busy)


def test_half_a_body_and_a_slow_body_harm_nobody(server: Server):
    body = b'{"model": "toy", "prompt": "A"}'
    half = raw(server, post(STRICT, body[:10], length=len(body)))
    whole = httpx2.post(server.url + STRICT, content=body, timeout=100).json()
    assert whole["choices"][0]["text"] == "one two three"
    half.sendall(body[10:])
    assert half.recv(12) == b"HTTP/1.1 200"
    half.close()
    raw(server, post(STRICT, body[:10], length=len(body))).close()
    assert httpx2.get(server.url + "/health").json() == {"status": "ok"}


@pytest.mark.parametrize("path", [STRICT, LEGACY])
def test_case_109_twenty_megabytes_are_413(server: Server, path: str):
    reply = httpx2.post(server.url + path, content=b" " * 20_000_000)
    assert reply.status_code == 413
    assert ("detail" in reply.json()) is (path == STRICT)


@pytest.mark.parametrize(
    "text",
    [
        b"GARBAGE\r\n\r\n",
        b"POST /v1/completions HTTP/1.1\r\nContent-Length: x\r\n\r\n",
        b"POST /v1/completions HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
    ],
)
def test_what_is_not_http_gets_400_or_nothing(server: Server, text: bytes):
    with raw(server, text) as connection:
        connection.shutdown(socket.SHUT_WR)
        answer = connection.recv(100)
    assert answer == b"" or answer.split()[1] in (b"400", b"404"), answer
    assert httpx2.get(server.url + "/health").status_code == 200


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"Content-Length: -1", b"400"),
        (b"Content-Length: 5\r\nContent-Length: 6", b"400"),
        (b"Content-Length: " + b"9" * 30, b"413"),
        (b"Transfer-Encoding: gzip", b"400"),
        (b"X : 1", b"400"),
    ],
)
@pytest.mark.parametrize("path", [STRICT, LEGACY])
def test_what_waitress_refuses_has_the_shape_of_its_route(
    server: Server, path: str, head: bytes, status: bytes
):
    with raw(server, f"POST {path} HTTP/1.1\r\nHost: x\r\n".encode() + head + b"\r\n\r\n") as it:
        whole = b"".join(iter(lambda: it.recv(4096), b""))
    top, _, body = whole.partition(b"\r\n\r\n")
    assert top.split()[1] == status
    assert b"Content-Type: application/json" in top
    answer = json.loads(body)
    # A header that cannot be read may hide the path.
    assert set(answer) in ({"status", "title", "detail"}, {"error"})
    assert str(server.port) not in body.decode() and "Traceback" not in body.decode()


def test_requests_in_one_connection_are_answered_in_turn(server: Server):
    good = post(LEGACY, b'{"model": "toy", "prompt": "A"}')
    with raw(server, good + post(LEGACY, b"{") + good + b"GET /health HTTP/1.0\r\n\r\n") as it:
        whole = b"".join(iter(lambda: it.recv(4096), b""))
    assert re.findall(rb"HTTP/1\.. (\d+)", whole) == [b"200", b"400", b"200", b"200"]


def test_chunked_body_is_read(server: Server):
    pieces = iter([b'{"model": "toy", ', b'"prompt": "A"}'])
    reply = httpx2.post(server.url + STRICT, content=pieces, timeout=100)
    assert reply.json()["choices"][0]["text"] == "one two three"


def test_closing_lets_a_stream_finish_and_refuses_new_connections(long: LM):
    server = serve(long)
    asked = {"prompt": "x", "max_tokens": 300, "ignore_eos": True, "seed": 1, "stream": True}
    with httpx2.stream("POST", server.url + LEGACY, json=asked, timeout=100) as reply:
        lines = reply.iter_lines()
        next(lines)
        closing = threading.Thread(target=server.close)
        closing.start()
        assert [line for line in lines if line][-1] == "data: [DONE]"
    closing.join()
    server.close()
    assert "closed" in repr(server)
    with pytest.raises(httpx2.ConnectError):
        httpx2.get(server.url + "/health")


def test_closing_without_grace_cuts_what_runs(long: LM, busy: Callable[[], int]):
    server = serve(long)
    connection = raw(server, post(LEGACY, json.dumps(ENDLESS).encode()))
    becomes(1, busy)
    server.close(grace=0)
    becomes(0, busy)
    assert connection.recv(10) == b""
    connection.close()


def test_port_out_of_range_is_refused(toy: LM):
    with pytest.raises(ValueError, match="`port` must be in"):
        serve(toy, port=99_999)


def test_port_in_use_is_said(server: Server, toy: LM):
    with pytest.raises(OSError, match="in use"):
        serve(toy, port=server.port)
