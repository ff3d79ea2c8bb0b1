"""The `toolkit` command, as a process: text, JSON, errors, Ctrl-C."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import jsonschema

COMMAND = [sys.executable, "-m", "toolkit"]
INTERRUPTIBLE = """
import signal
signal.signal(signal.SIGINT, signal.default_int_handler)  # a worker's children ignore it
from toolkit.cli import main
main()
"""


def toolkit(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*COMMAND, *words], capture_output=True, text=True, timeout=240)


def test_the_capital_of_france(folder):
    done = toolkit(
        "complete", "The capital of France is", "--max-tokens", "8", "--temperature", "0"
    )
    assert done.stdout.startswith(" Paris"), done.stderr
    assert done.returncode == 0


def test_json_is_the_specifications_dict(folder, specification):
    done = toolkit("complete", "One, two,", "--json", "--max-tokens", "3", "--logprobs", "1")
    schema = specification["responses"]["200"]["content"]["application/json"]["schema"]
    jsonschema.validate(json.loads(done.stdout), schema)


def test_an_error_is_one_line_with_the_way_out(folder):
    done = toolkit("complete", "x", "--temperature", "3")
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "`temperature`" in done.stderr and "[0, 2]" in done.stderr


def test_an_unknown_model_is_refused():
    done = toolkit("complete", "x", "--model", "no-such-model")
    assert done.returncode == 1
    assert "no-such-model" in done.stderr


def test_demo_shows_a_completion_and_its_tokens(folder):
    done = toolkit("demo")
    assert done.returncode == 0, done.stderr
    assert "The capital of France is Paris" in done.stdout
    assert "logprob" in done.stdout and "tokens/s" in done.stdout


def test_ctrl_c_stops_a_completion_at_once(folder: Path):
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(
        [sys.executable, "-c", INTERRUPTIBLE, "complete", "Once upon", "--max-tokens", "4000"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment,
    ) as process:
        assert process.stdout is not None and process.stderr is not None
        process.stdout.read(8)  # the first tokens are there
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=20) == 130
        assert b"Traceback" not in process.stderr.read()
