"""Many clients at one time, and clients under other servers."""

from __future__ import annotations

import json
import random
import socket
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx2
from werkzeug.serving import make_server

from tests.server.conftest import LEGACY, STRICT
from tests.server.test_serve import ENDLESS, becomes, post
from toolkit.completion.complete import LM
from toolkit.server import Server, create_app
from toolkit.server.client import gone_check


def mixed(number: int) -> tuple[str, dict[str, Any]]:
    """The path and the body of one of many different requests."""
    kinds: list[dict[str, Any]] = [
        {"prompt": "A", "temperature": 0},
        {"prompt": ["x", "y"], "n": 2, "max_tokens": 24},
        {"prompt": "z", "guided_choice": ["joy", "sadness", "anger"], "temperature": 2},
        {"prompt": "x", "stop": ["a"], "frequency_penalty": 1.5, "max_tokens": 30},
        {"prompt": [65, 66], "echo": True, "top_p": 0.7},
    ]
    body = {"model": "toy", "seed": number, **kinds[number % len(kinds)]}
    return random.Random(number).choice((STRICT, LEGACY)), body | {"stream": number % 3 == 0}


def texts(url: str, path: str, body: dict[str, Any]) -> list[str]:
    """The texts of all choices, of a stream or not."""
    reply = httpx2.post(url + path, json=body, timeout=100)
    assert reply.status_code == 200, reply.text
    if not body["stream"]:
        return [choice["text"] for choice in reply.json()["choices"]]
    found: dict[int, str] = {}
    *events, done = (line for line in reply.text.split("\n\n") if line)
    assert done == "data: [DONE]"
    for event in events:
        (choice,) = json.loads(event.removeprefix("data: "))["choices"]
        found[choice["index"]] = found.get(choice["index"], "") + choice["text"]
    return [found[index] for index in sorted(found)]


def test_case_106_thirty_two_clients_get_what_each_gets_alone(server: Server):
    asked = [mixed(number) for number in range(32)]
    alone = [texts(server.url, *request) for request in asked]
    with ThreadPoolExecutor(32) as pool:
        together = list(pool.map(lambda request: texts(server.url, *request), asked))
    assert together == alone


def test_case_103_client_that_leaves_is_noticed_under_werkzeug(long: LM, busy: Callable[[], int]):
    other = make_server("127.0.0.1", 0, create_app(long), threaded=True)
    thread = threading.Thread(target=other.serve_forever)
    thread.start()
    try:
        with socket.create_connection(("127.0.0.1", other.port), timeout=100) as connection:
            connection.sendall(post(LEGACY, json.dumps(ENDLESS).encode()))
            becomes(1, busy)
        becomes(0, busy)
        assert httpx2.get(f"http://127.0.0.1:{other.port}/health").status_code == 200
    finally:
        other.shutdown()
        thread.join()
        other.server_close()


def test_client_is_there_until_its_socket_says_otherwise():
    ours, theirs = socket.socketpair()
    for name in ("werkzeug.socket", "gunicorn.socket"):
        assert not gone_check({name: ours})()
    theirs.send(b"the next request")
    assert not gone_check({"werkzeug.socket": ours})()
    ours.recv(100)
    theirs.close()
    assert gone_check({"werkzeug.socket": ours})()
    ours.close()
    assert gone_check({"werkzeug.socket": ours})(), "closed by ourselves"
    assert not gone_check({})(), "a server without a handle"
