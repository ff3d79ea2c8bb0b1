"""Thirty-two clients of every kind for a while: nothing is lost, nothing grows, nobody disturbs
another. `TOOLKIT_SOAK_SECONDS` says for how long; ten minutes are what a release is tried with."""

from __future__ import annotations

import collections
import json
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx2
import pytest

from tests.contract import toys
from tests.oracle.toy import write_toy
from tests.server.conftest import LEGACY, STRICT
from tests.server.test_clients import mixed, texts
from tests.server.test_metrics import samples
from tests.server.test_serve import ENDLESS, post

SECONDS = float(os.environ.get("TOOLKIT_SOAK_SECONDS", "60"))
CLIENTS = 32
REQUESTS = 150
"""Different requests whose answers are known."""
COMPILES = "toolkit_engine_compiles_total model=toy"
BAD = (
    b"",
    b"{",
    b"[1]",
    b'{"prompt": NaN}',
    b'{"prompt": "\\ud800"}',
    b'{"prompt": "A", "n": 0}',
    b'{"prompt": "A", "frobnicate": 1}',
    b'{"prompt": [999999]}',
    b"[" * 50_000,
)
SERVER = """
import sys, toolkit
from toolkit.server.serve import run
lm = toolkit.load(sys.argv[1], max_batch=16, strict=True)
server = toolkit.serve(lm)
print(server.url, flush=True)
run(server)
"""

pytestmark = [pytest.mark.slow, pytest.mark.timeout(4 * SECONDS + 600)]


@pytest.fixture
def process(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A server in a process of its own, whose memory is nobody else's."""
    write_toy(tmp_path / "toy", toys.table(), toys.VOCABULARY, context=4096)
    started = subprocess.Popen(
        [sys.executable, "-c", SERVER, "toy"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        stdout=subprocess.PIPE,
        text=True,
    )
    with started:
        yield started
        started.kill()


class Crowd:
    """What the clients share: the known answers, what they count, when they stop."""

    def __init__(self, url: str):
        self.url = url
        self.asked = [mixed(number) for number in range(REQUESTS)]
        self.alone = [texts(url, *request) for request in self.asked]
        self.counts: collections.Counter[str] = collections.Counter()
        self.wrong: list[Any] = []
        self.over = threading.Event()
        self._lock = threading.Lock()

    def client(self, number: int) -> None:
        """One client until the end."""
        rng = random.Random(number)
        acts = [self.ask] * 6 + [self.leave, self.leave, self.complain, self.stop_halfway]
        while not self.over.is_set():
            act = rng.choice(acts)
            try:
                act(rng)
            except Exception as error:
                self.wrong.append((act.__name__, repr(error)))
            with self._lock:
                self.counts[act.__name__] += 1

    def ask(self, rng: random.Random) -> None:
        """A seeded, greedy or guided request, streamed or not: the answer is the known one."""
        number = rng.randrange(REQUESTS)
        path, body = self.asked[number]
        if texts(self.url, path, body) != self.alone[number]:
            self.wrong.append(body)

    def leave(self, rng: random.Random) -> None:
        """A long answer that nobody waits for."""
        body = {**ENDLESS, "n": rng.randint(1, 4), "stream": rng.random() < 0.5}
        with self.connection(post(LEGACY, json.dumps(body).encode())) as connection:
            if body["stream"]:
                connection.recv(rng.choice([1, 500, 5000]))
            else:
                self.over.wait(0.05 * rng.random())

    def complain(self, rng: random.Random) -> None:
        """A body that makes no sense is refused."""
        path = rng.choice((STRICT, LEGACY))
        reply = httpx2.post(self.url + path, content=rng.choice(BAD), timeout=100)
        assert reply.status_code == 400, reply.text

    def stop_halfway(self, rng: random.Random) -> None:
        """Half a body, and the connection is gone."""
        self.connection(post(STRICT, b'{"model": "toy', length=1000)).close()

    def connection(self, request: bytes) -> socket.socket:
        address = urlsplit(self.url)
        made = socket.create_connection((address.hostname, address.port), timeout=100)
        made.sendall(request)
        return made


def resident(process: subprocess.Popen[str]) -> float:
    """Memory that a process holds, in MiB."""
    status = Path(f"/proc/{process.pid}/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0]) / 1024


def compiled(url: str) -> int:
    """Programs that a server has compiled: each of them takes memory once."""
    return int(samples(httpx2.get(url + "/metrics", timeout=100).text)[COMPILES])


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads memory from /proc")
def test_mixed_clients_for_a_while(process: subprocess.Popen[str]):
    assert process.stdout is not None
    crowd = Crowd(process.stdout.readline().strip())
    clients = [threading.Thread(target=crowd.client, args=[n]) for n in range(CLIENTS)]
    began = time.monotonic()
    for client in clients:
        client.start()
    memory, programs = [], []
    while (left := began + SECONDS - time.monotonic()) > 0:
        crowd.over.wait(min(left, SECONDS / 10))
        memory.append(resident(process))
        programs.append(compiled(crowd.url))
    crowd.over.set()
    for client in clients:
        client.join()
    print(dict(crowd.counts), "MiB:", [round(size) for size in memory], "programs:", programs)
    assert crowd.wrong == []
    assert set(crowd.counts) == {"ask", "leave", "complain", "stop_halfway"}
    assert [texts(crowd.url, *request) for request in crowd.asked] == crowd.alone
    check_at_rest(crowd.url)
    # At first programs are compiled and the store of prompts fills.
    half = memory[len(memory) // 2]
    assert memory[-1] < 1.1 * half + 20, f"grew in the second half: {memory}"
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 0


def check_at_rest(url: str) -> None:
    """Nothing waits and nothing runs: whoever left has left nothing behind."""
    assert httpx2.get(url + "/health").json() == {"status": "ok"}
    deadline = time.monotonic() + 60
    while True:
        seen = samples(httpx2.get(url + "/metrics").text)
        busy = [seen[f"toolkit_sequences_{what} model=toy"] for what in ("waiting", "running")]
        if busy == [0, 0]:
            return
        assert time.monotonic() < deadline, busy
        threading.Event().wait(0.05)
