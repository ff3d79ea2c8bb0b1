"""llama-cpp-python's server, asked the same as ours: its answers become the same frames."""

from __future__ import annotations

import importlib.util
import math
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pandas as pd
import pytest

import toolkit
from experiments.benchmarks.gguf_file import write_gguf
from toolkit import frames
from toolkit.models import catalog

pytestmark = [
    pytest.mark.parity,
    pytest.mark.timeout(1200),
    pytest.mark.skipif(
        importlib.util.find_spec("llama_cpp") is None,
        reason='`pip install "llama-cpp-python[server]"` compiles it',
    ),
]

PROMPT = "The capital of France is"
ASKED = {"prompt": PROMPT, "max_tokens": 6, "temperature": 0, "logprobs": 3}
NEUTRAL = {"repeat_penalty": 1.0}
"""Their own default changes what greedy decoding says."""
CLOSE = 0.05
"""Natural logarithms: llama.cpp keeps its cache in 16 bits."""


@pytest.fixture(scope="module")
def theirs(folder: Path) -> Iterator[str]:
    """Their server on the same float32 weights; its completions route."""
    weights = catalog.models_directory().parent / "benchmarks" / f"{folder.name}-f32.gguf"
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    options = {
        "model": write_gguf(folder, weights, "F32"),
        "port": port,
        "n_ctx": 256,
        "n_threads": os.cpu_count(),
    }
    named = [str(text) for name, value in options.items() for text in (f"--{name}", value)]
    with subprocess.Popen(
        [sys.executable, "-m", "llama_cpp.server", *named],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as process:
        try:
            await_answer(f"http://127.0.0.1:{port}/v1/models", process)
            yield f"http://127.0.0.1:{port}/v1/completions"
        finally:
            process.kill()


def await_answer(url: str, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 200
    while process.poll() is None and time.monotonic() < deadline:
        try:
            if httpx2.get(url, timeout=10).status_code == 200:
                return
        except httpx2.TransportError:
            threading.Event().wait(0.2)
    pytest.fail(f"no answer; the server's exit status is {process.poll()}")


@pytest.fixture(scope="module")
def ours(lm: toolkit.LM) -> Iterator[str]:
    """Our legacy route."""
    with toolkit.serve(lm) as server:
        yield f"{server.url}/v1/completions"


def ask(url: str, **more: Any) -> dict[str, Any]:
    reply = httpx2.post(url, json=ASKED | more, timeout=500)
    assert reply.status_code == 200, reply.text
    return reply.json()


def both(ours: str, theirs: str, **more: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    return ask(ours, **more), ask(theirs, **more, **NEUTRAL)


def test_the_same_frame_of_tokens(ours: str, theirs: str):
    one, other = map(frames.tokens, both(ours, theirs))
    assert list(one.columns) == list(other.columns)
    assert one.dtypes.to_list() == other.dtypes.to_list()
    assert len(one) == len(other) == 6
    for name in ("token", "segment", "step", "rank"):
        assert one[name].to_list() == other[name].to_list(), name
    for a, b in zip(one["logprob"], other["logprob"], strict=True):
        assert math.isclose(a, b, abs_tol=CLOSE)


def test_the_same_alternatives(ours: str, theirs: str):
    one, other = map(frames.candidates, both(ours, theirs))
    assert list(one.columns) == list(other.columns)
    best = [frame.groupby("position").first() for frame in (one, other)]
    assert best[0]["token"].to_list() == best[1]["token"].to_list()
    for a, b in zip(best[0]["logprob"], best[1]["logprob"], strict=True):
        assert math.isclose(a, b, abs_tol=CLOSE)


def test_echo_has_the_same_columns(ours: str, theirs: str):
    """Their log-probabilities of a prompt stand one place off, and the last entry is missing; what
    they say about text can be compared."""
    one, other = map(frames.tokens, both(ours, theirs, echo=True))
    assert list(one.columns) == list(other.columns)
    assert one.dtypes.to_list() == other.dtypes.to_list()
    shared = min(len(one), len(other))
    assert shared >= 10
    for name in ("token", "text_start"):
        assert one[name].to_list()[:shared] == other[name].to_list()[:shared], name
    assert other["segment"].to_list() == one["segment"].to_list()[:shared]
    assert other["segment"].to_list().count("prompt") == 5
    assert pd.isna(one["logprob"][0]) and pd.isna(other["logprob"][0])


def test_the_same_frame_of_requests(ours: str, theirs: str):
    one, other = (frames.requests(a).iloc[0] for a in both(ours, theirs))
    for name in ("prompt_tokens", "completion_tokens", "finish_reason"):
        assert one[name] == other[name], name
    assert math.isclose(one["logprob_sum"], other["logprob_sum"], abs_tol=6 * CLOSE)
