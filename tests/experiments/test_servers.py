"""Runs against servers that misbehave: they drop connections, answer 429 and 500, and hang."""

from __future__ import annotations

import collections
import json
import socketserver
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler

import pytest

from tests.experiments.fakes import body
from tests.experiments.runs import assert_equal
from toolkit.errors import RunError, TargetError
from toolkit.experiments import ask, store
from toolkit.experiments.command import started
from toolkit.experiments.run import Run

Act = Callable[["Handler", int], bool]
"""What a server does with its n-th request before it would answer; True if that was all."""


class Handler(BaseHTTPRequestHandler):
    """Answers as `Fake` does, unless `act` does something else."""

    act: Act

    def do_POST(self) -> None:
        self.fields = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with self.server.lock:  # type: ignore[attr-defined]
            self.server.asked.append(self.fields)  # type: ignore[attr-defined]
            number = len(self.server.asked)  # type: ignore[attr-defined]
        if not self.act(number):
            self.say(200, body(self.fields))

    def do_GET(self) -> None:
        self.say(404, {})

    def say(self, status: int, value: object, **headers: str) -> bool:
        data = json.dumps(value).encode()
        self.send_response(status)
        for name, text in headers.items():
            self.send_header(name.replace("_", "-"), text)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)
        return True

    def log_message(self, format: str, *args: object) -> None:
        pass


class Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 64

    def __init__(self, act: Act):
        self.asked: list[dict] = []
        self.lock = threading.Lock()
        super().__init__(("127.0.0.1", 0), type("Acting", (Handler,), {"act": act}))


@pytest.fixture
def serve() -> Iterator[Callable[[Act], Server]]:
    servers = []

    def begin(act: Act = lambda handler, number: False) -> Server:
        servers.append(Server(act))
        threading.Thread(target=servers[-1].serve_forever, daemon=True).start()
        return servers[-1]

    yield begin
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.fixture(autouse=True)
def pauses(monkeypatch) -> list[float | None]:
    """No pauses, but what would have been asked for."""
    found: list[float | None] = []
    monkeypatch.setattr(ask, "_pause", lambda attempt, asked: found.append(asked) or 0.0)
    return found


@pytest.fixture
def run(tmp_path, serve) -> Callable[..., Run]:
    """Runs twelve cells against a server; runs of one name share a folder. All servers of a test
    have one address: what is asked does not depend on who answers."""

    def go(server: Server, name: str = "run", **target) -> Run:
        url = f"http://127.0.0.1:{server.server_address[1]}/v1"
        declared = {
            "targets": [
                {"base_url": url, "model": "fake", "name": "server", "probe": False} | target
            ],
            "prompts": ["a", "b"],
            "grid": {"temperature": [0, 0.5]},
            "seeds": 3,
        }
        path = tmp_path / "small.yaml"
        path.write_text(json.dumps(declared))
        return started(path, out=tmp_path / name, progress=False)

    return go


def test_every_cell_is_asked_once_and_kept_as_it_came(run, serve):
    server = serve()
    done = run(server)
    assert done.done and len(server.asked) == 12
    assert all(fields["model"] == "fake" for fields in server.asked)
    line, reply = next(done.cells())
    assert reply["body"] == body(line["request"])
    assert reply["seconds"] > 0 and reply["attempts"] == 1
    frame = done.requests
    assert frame["text"].str.endswith("!").all() and frame["seconds"].gt(0).all()
    assert frame["completion_tokens"].tolist() == [2] * 12
    assert frame["param.temperature"].tolist() == [0, 0, 0, 0.5, 0.5, 0.5] * 2
    assert len(done.tokens) == 24


def test_a_busy_server_is_asked_again_when_it_says(run, serve, pauses):
    def busy(handler, number):
        return number % 2 and handler.say(429, {"error": {"message": "later"}}, Retry_After="7")

    server = serve(busy)
    assert run(server, concurrency=1).done
    assert len(server.asked) == 24
    assert pauses == [7.0] * 12


@pytest.mark.parametrize("status", [500, 502, 503, 504])
def test_a_server_that_fails_now_and_then(run, serve, status):
    server = serve(lambda handler, number: number % 3 == 0 and handler.say(status, {}))
    done = run(server)
    assert done.done
    assert len(server.asked) > 12
    tries = [reply["attempts"] for _, reply in done.cells()]
    assert sum(tries) == len(server.asked)


@pytest.mark.parametrize("status", [400, 422])
def test_a_refusal_is_not_asked_again(run, serve, status):
    def refuse(handler, number):
        return handler.fields["prompt"] == "b" and handler.say(status, {"detail": "no b"})

    server = serve(refuse)
    done = run(server)
    assert len(server.asked) == 12 and done.answered == 6
    assert all("no b" in message for message in done.failures.values())


def test_a_wrong_key_ends_the_run(run, serve):
    server = serve(lambda handler, number: handler.say(401, {"error": {"message": "who?"}}))
    with pytest.raises(TargetError, match="who"):
        run(server, concurrency=2)
    assert len(server.asked) <= 3


def test_dropped_connections_are_tried_again(run, serve):
    def drop(handler, number):
        if number % 3 == 0:
            handler.connection.close()
            return True
        if number % 5 == 0:  # in the middle of the answer
            handler.wfile.write(b"HTTP/1.0 200 OK\r\nContent-Length: 99\r\n\r\n{")
            return True
        return False

    assert run(serve(drop), attempts=10).done


def test_a_server_that_hangs_is_given_up_and_asked_later(run, serve):
    release = threading.Event()

    def hang(handler, number):
        return release.wait(timeout=60) if handler.fields["seed"] == 1 else False

    server = serve(hang)
    partial = run(server, timeout=1.0, attempts=1)
    assert partial.answered == 8
    assert all("did not answer in time" in said for said in partial.failures.values())
    server.RequestHandlerClass.act = lambda handler, number: False  # type: ignore[attr-defined]
    assert run(server, timeout=1.0, attempts=1).done
    release.set()


def test_all_faults_at_once_give_the_same_run_in_the_end(run, serve):
    release, seen = threading.Event(), collections.Counter()

    def bad(handler, number):
        kind = seen["requests"] % 6
        seen["requests"] += 1
        if kind == 1:
            return handler.say(429, {}, Retry_After="0")
        if kind == 2:
            return handler.say(500, {})
        if kind == 3:
            handler.connection.close()
            return True
        if kind == 4 and seen["hung"] < 2:
            seen["hung"] += 1
            return release.wait(timeout=60)
        if kind == 5:
            return handler.say(200, "no object")
        return False

    server = serve(bad)
    for _ in range(20):
        broken = run(server, timeout=2.0, attempts=2)
        if broken.done:
            break
    release.set()
    server.RequestHandlerClass.act = lambda handler, number: False  # type: ignore[attr-defined]
    assert broken.done
    assert_equal(broken, run(server, "whole", timeout=2.0, attempts=2))
    lines = (broken.path / store.RESPONSES).read_bytes().splitlines()
    good = [line for line in lines if not store.is_failure(line)]
    assert len(good) == 12


def test_a_server_that_is_not_there(run, serve):
    server = serve()
    server.shutdown()
    server.server_close()
    with pytest.raises(TargetError, match="cannot be reached"):
        run(server, attempts=1)


def test_a_key_comes_from_the_environment(run, serve, monkeypatch, tmp_path):
    heard = []

    def listen(handler, number):
        heard.append(handler.headers["Authorization"])
        return False

    server = serve(listen)
    with pytest.raises(RunError, match="variable TOY_KEY is empty"):
        run(server, api_key_env="TOY_KEY")
    monkeypatch.setenv("TOY_KEY", "hunter2")
    assert run(server, api_key_env="TOY_KEY").done
    assert set(heard) == {"Bearer hunter2"}
    for path in (tmp_path / "run").glob("*.json*"):
        assert "hunter2" not in path.read_text()


def test_what_a_server_means_is_asked_once_and_stands_in_the_manifest(run, serve):
    server = serve()
    first = run(server, probe=True)
    asked = len(server.asked)
    found = first.manifest["probes"]["server"]
    assert asked > 12 + 20 and first.done
    assert len(found["checks"]) == 23
    verdicts = {check["check"]: check["verdict"] for check in found["checks"]}
    assert verdicts["top_p"] == "unknown" and verdicts["penalties"] != "as expected"
    again = run(server, probe=True, concurrency=2)
    assert len(server.asked) == asked and again.manifest["probes"]["server"] == found


def test_a_server_that_fails_when_it_is_examined_is_asked_all_the_same(run, serve):
    def late(handler, number):
        return number == 1 and handler.say(500, {"error": {"message": "warming up"}})

    server = serve(late)
    done = run(server, probe=True)
    assert done.done and len(server.asked) == 13
    assert done.manifest["probes"] == {}
