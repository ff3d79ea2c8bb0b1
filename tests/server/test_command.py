"""`toolkit serve` as a process: starts, answers with a key, ends in peace."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import httpx2
import pytest
from typer.testing import CliRunner

from tests.contract import toys
from tests.oracle.toy import write_toy
from toolkit.cli import app
from toolkit.cli.serve import _api_keys


def test_serve_answers_until_it_is_told_to_stop(tmp_path: Path):
    write_toy(tmp_path / "toy", toys.table(), toys.VOCABULARY, context=toys.CONTEXT)
    (tmp_path / "keys").write_text("hunter1\n\nhunter2\n")
    name = str(tmp_path / "toy")
    command = [sys.executable, "-m", "toolkit", "serve", "--model", name, "--port", "0"]
    command += ["--api-key-file", str(tmp_path / "keys"), "--rate-limit", "2/hour"]
    command += ["--max-queue", "4", "--max-batch", "2", "--top-logprobs", "3"]
    command += ["--warm-up", "2x32"]
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"TOOLKIT_API_KEY": "hunter3"},
    )
    assert process.stdout is not None
    try:
        line = process.stdout.readline()
        (url,) = re.findall(r"at (\S+)/v1 and", line)
        assert url.startswith("http://127.0.0.1:")
        for key, status in [("hunter1", 200), ("hunter2", 200), ("hunter3", 200), ("hunter", 401)]:
            headers = {"Authorization": f"Bearer {key}"}
            asked = {"prompt": "A", "logprobs": 3, "max_tokens": 1}
            reply = httpx2.post(url + "/v1/completions", json=asked, headers=headers, timeout=200)
            assert reply.status_code == status
        headers = {"Authorization": "Bearer hunter1"}
        too_many = {"prompt": ["A"] * 7}
        reply = httpx2.post(url + "/v1/completions", json=too_many, headers=headers, timeout=200)
        assert reply.status_code == 429, "seven do not fit a queue of four"
        reply = httpx2.post(url + "/v1/completions", json=too_many, headers=headers, timeout=200)
        assert "More than 2" in reply.text
    finally:
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors
    lines = [line for line in errors.splitlines() if "/v1/completions" in line]
    assert [line.split("/v1/completions ")[1].split()[0] for line in lines] == [
        "200", "200", "200", "401", "429", "429",
    ]  # fmt: skip
    assert "hunter" not in errors
    assert "ahead of the first call" in errors


def test_several_models_on_one_server(tmp_path: Path):
    command = [sys.executable, "-m", "toolkit", "serve", "--port", "0", "--strict"]
    for name in ("one", "two"):
        write_toy(tmp_path / name, toys.table(), toys.VOCABULARY, context=toys.CONTEXT)
        command += ["--model", name]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen(
        command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        try:
            (url,) = re.findall(r"^one, two at (\S+)/v1 and", process.stdout.readline())
            listed = httpx2.get(url + "/v1/models", timeout=100).json()["data"]
            assert [model["id"] for model in listed] == ["one", "two"]
            for name in ("one", "two"):
                asked = {"prompt": "A", "model": name}
                answer = httpx2.post(url + "/v1/completions", json=asked, timeout=200).json()
                assert (answer["model"], answer["choices"][0]["text"]) == (name, "one two three")
            reply = httpx2.post(url + "/v1/completions", json={"prompt": "A"}, timeout=200)
            assert reply.status_code == 400
        finally:
            process.send_signal(signal.SIGINT)
        assert process.wait(60) == 0


@pytest.mark.parametrize(
    ("option", "value", "says"),
    [
        ("--max-queue", "0", "--max-queue"),
        ("--max-batch", "0", "--max-batch"),
        ("--warm-up", "many", "`--warm-up` must be ROWSxTOKENS, as 16x512, got 'many'."),
        ("--warm-up", "65x16", "`--warm-up 65x16`: `rows` must be a whole number, in [1, 64]"),
        ("--warm-up", "2x65", "`--warm-up 2x65`: `tokens` must be a whole number, in [2, 64]"),
        ("--rate-limit", "many", "`rate_limit`"),
        ("--rate-limit", "0/minute", "`rate_limit`"),
        ("--request-timeout", "0", "`request_timeout` must be seconds above 0, got 0.0."),
        ("--request-timeout", "nan", "got nan"),
        ("--port", "99999", "port"),
    ],
)
def test_options_that_make_no_sense_are_refused(tmp_path: Path, option: str, value: str, says: str):
    write_toy(tmp_path / "toy", toys.table(), toys.VOCABULARY, context=toys.CONTEXT)
    given = ["serve", "--model", str(tmp_path / "toy"), option, value]
    result = CliRunner().invoke(app, given)
    assert result.exit_code == 2, result.output
    assert says in " ".join(re.sub(r"[│\n]", " ", result.output).split())


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (b"\n", "holds no key"),
        (b"\xef\xbb\xbf\n", "holds no key"),
        (b"caf\xe9", "is not in UTF-8. Save it as UTF-8 text."),
        (b"two\x01", "control character"),
        (None, "is a directory"),
    ],
)
def test_file_of_keys_that_cannot_be_used_is_refused(tmp_path: Path, text: bytes | None, says: str):
    file = tmp_path
    if text is not None:
        file = tmp_path / "keys"
        file.write_bytes(text)
    result = CliRunner().invoke(app, ["serve", "--api-key-file", str(file)])
    assert result.exit_code == 2
    assert says in " ".join(re.sub(r"[│\n]", " ", result.output).split())


def test_keys_are_the_lines_of_a_text_with_or_without_a_mark(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("TOOLKIT_API_KEY", " third\n")
    (tmp_path / "keys").write_bytes("\ufefffirst\r\n\n voil\u00e0\u0085 \n".encode())
    assert _api_keys(tmp_path / "keys") == ["first", "voil\u00e0\u0085", "third"]
