"""Targets without a model: answers follow from the request alone."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Mapping
from typing import Any

from toolkit.experiments.target import Answer


class Fake:
    """Says a number that depends on prompt, seed and temperature. `before` is called with each
    request and may raise."""

    name = "fake"

    def __init__(self, before: Callable[[Mapping[str, Any]], object] = lambda fields: None):
        self.before = before
        self.asked: list[Mapping[str, Any]] = []
        self.most = 0
        self._running = 0
        self._lock = threading.Lock()

    def complete(self, fields: Mapping[str, Any]) -> Answer:
        with self._lock:
            self._running += 1
            self.most = max(self.most, self._running)
            self.asked.append(fields)
        try:
            self.before(fields)
        finally:
            with self._lock:
                self._running -= 1
        return Answer(body=body(fields), seconds=0.5, first_token=0.25)

    def tokenize(self, text: str) -> None:
        return None

    def identity(self) -> dict[str, Any]:
        return {"kind": "fake", "url": "http://fake/v1", "model": "fake"}

    def close(self) -> None:
        pass


def body(fields: Mapping[str, Any]) -> dict[str, Any]:
    """A legacy answer with two tokens for each choice."""
    n = fields.get("n", 1)
    return {
        "id": "cmpl-1",
        "object": "text_completion",
        "created": 1,
        "model": "fake",
        "choices": [_choice(fields, i) for i in range(n)],
        "usage": {"prompt_tokens": 1, "completion_tokens": 2 * n, "total_tokens": 2 * n + 1},
    }


def _choice(fields: Mapping[str, Any], index: int) -> dict[str, Any]:
    said = f"{fields.get('prompt')} {fields.get('seed')} {fields.get('temperature')} {index}"
    digit = hashlib.blake2b(said.encode()).digest()[0]
    logprob = -digit / 100
    return {
        "index": index,
        "text": f" {digit}!",
        "finish_reason": "length",
        "logprobs": {
            "tokens": [f" {digit}", "!"],
            "token_logprobs": [logprob, -0.5],
            "top_logprobs": [{f" {digit}": logprob}, {"!": -0.5, "?": -1.5}],
            "text_offset": [1, 3],
        },
    }
