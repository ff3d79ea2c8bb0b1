"""The toolkit's server in a process of its own, and the clients that ask it over HTTP.

The servers of the peers are asked by the same clients, with the same bodies: see the modules whose
names begin with `served_`.
"""

from __future__ import annotations

import atexit
import collections
import concurrent.futures
import contextlib
import http.client
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from typing import Any

PATIENCE = 900
"""Seconds until a server must answer, and for each answer."""


class Engine:
    """A running server. Prompts are text, and each turn takes the next ones of its list: no server
    finds them in a cache."""

    ready = "/v1/models"
    """What answers 200 once the model is loaded."""

    def __init__(self, *, folder: str, gguf: dict[str, str], threads: int, context: int):
        self.port = _free_port()
        self.turns: collections.Counter[str] = collections.Counter()
        self.folder, self.gguf, self.threads, self.context = folder, gguf, threads, context
        self.log = tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace")
        environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
        self.process = subprocess.Popen(
            self.command(), env=environment, stdout=self.log, stderr=self.log
        )
        atexit.register(self.close)
        self._await_answer()

    @property
    def model(self) -> str:
        """What the server calls its model."""
        return self.folder

    def command(self) -> list[str]:
        """What starts the server."""
        command = [sys.executable, "-m", "toolkit", "serve", "--model", self.folder]
        return [*command, "--port", str(self.port)]

    def together(
        self, prompts: list[list[str]], count: int, repeat: int = 1, variant: str = ""
    ) -> dict[str, Any]:
        """A client for each prompt of the turn, all at one time, greedily: tokens that were made in
        `seconds`, and the texts. `repeat` turns, of which the last one counts."""
        seconds, answers = 0.0, []
        for _ in range(repeat):
            ours = self._next("together", prompts)
            began = time.perf_counter()
            with concurrent.futures.ThreadPoolExecutor(len(ours)) as clients:
                answers = list(clients.map(lambda prompt: self._complete(prompt, count), ours))
            seconds = time.perf_counter() - began
        return {
            "made": sum(answer["usage"]["completion_tokens"] for answer in answers),
            "texts": [answer["choices"][0]["text"] for answer in answers],
            "seconds": seconds,
        }

    def first_byte(self, prompts: list[list[str]], count: int, variant: str = "") -> dict[str, Any]:
        """One stream while nothing else runs, from the connection to the first byte of its body."""
        (prompt,) = self._next("first_byte", prompts)
        began = time.perf_counter()
        with self._asked(prompt, count, stream=True) as response:
            response.read(1)
            first = time.perf_counter() - began
            response.read()
        return {"first": first, "seconds": time.perf_counter() - began}

    def _next(self, kind: str, prompts: list[list[str]]) -> list[str]:
        chosen = prompts[self.turns[kind] % len(prompts)]
        self.turns[kind] += 1
        return chosen

    def _complete(self, prompt: str, count: int) -> dict[str, Any]:
        with self._asked(prompt, count, stream=False) as response:
            answer = json.loads(response.read())
        if response.status != 200:
            raise RuntimeError(f"{response.status}: {answer}")
        return answer

    @contextlib.contextmanager
    def _asked(self, prompt: str, count: int, *, stream: bool):
        body = {"model": self.model, "prompt": prompt, "max_tokens": count, "temperature": 0}
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
        try:
            text = json.dumps({**body, "stream": stream})
            headers = {"Content-Type": "application/json"}
            connection.request("POST", "/v1/completions", text, headers)
            yield connection.getresponse()
        finally:
            connection.close()

    def _await_answer(self) -> None:
        """Wait until the server is ready. Raises RuntimeError if it ends before."""
        deadline = time.monotonic() + PATIENCE
        while self.process.poll() is None and time.monotonic() < deadline:
            with contextlib.suppress(OSError, http.client.HTTPException):
                connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
                connection.request("GET", self.ready)
                if connection.getresponse().status == 200:
                    return
            time.sleep(0.1)
        self.close()
        self.log.seek(0)
        raise RuntimeError(f"the server did not start: {self.log.read()[-300:]}")

    def close(self) -> None:
        """End the server."""
        self.process.terminate()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
