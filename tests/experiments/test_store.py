"""Run folders: what is written stays whole, whatever happens."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys

import pytest

from toolkit.errors import RunError
from toolkit.experiments import store
from toolkit.experiments.store import Journal

CELL = "0123456789abcdef0123456789abcdef"
BODY = {"choices": [{"index": 0, "text": "é"}]}


def answer(number: int, **fields) -> bytes:
    return store.line({"cell_id": f"{number:032x}", **(fields or {"body": BODY})})


@pytest.fixture
def journal(tmp_path):
    made = Journal(tmp_path / store.RESPONSES)
    yield made
    made.close()


def test_answers_are_found_without_parsing(tmp_path, journal):
    journal.append(answer(1) + answer(2, error={"message": "no"}))
    journal.append(answer(3, error={"message": "no"}) + answer(3))
    good, bad = store.outcomes(tmp_path)
    assert good == {
        f"{1:032x}": 0,
        f"{3:032x}": len(answer(1) + answer(2, error={"message": "no"}))
        + len(answer(3, error={"message": "no"})),
    }
    assert list(bad) == [f"{2:032x}"]
    (line,) = store.responses(tmp_path, [good[f"{3:032x}"]])
    assert line == {"cell_id": f"{3:032x}", "body": BODY}


@pytest.mark.parametrize("kept", [0, 1, 20, 60])
def test_a_torn_last_line_is_no_answer_and_is_cut_off(tmp_path, kept):
    path = tmp_path / store.RESPONSES
    path.write_bytes(answer(1) + answer(2)[:kept])
    assert list(store.outcomes(tmp_path)[0]) == [f"{1:032x}"]
    again = Journal(path)
    again.append(answer(2))
    again.close()
    assert path.read_bytes() == answer(1) + answer(2)


def test_a_torn_line_longer_than_the_buffer(tmp_path):
    path = tmp_path / store.RESPONSES
    path.write_bytes(answer(1) + b"x" * 200_000)
    Journal(path).close()
    assert path.read_bytes() == answer(1)


def test_zeros_of_a_power_cut_are_no_answer(tmp_path):
    path = tmp_path / store.RESPONSES
    path.write_bytes(answer(1) + b"\0" * 4096 + b"\n" + answer(2))
    assert len(store.outcomes(tmp_path)[0]) == 2


def test_a_full_disk_leaves_no_half_line(tmp_path, journal, monkeypatch):
    write = os.write
    journal.append(answer(1))

    def half(descriptor, data):
        if len(data) < 10:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(descriptor, bytes(data[: len(data) // 2]))

    monkeypatch.setattr(os, "write", half)
    with pytest.raises(RunError, match=r"No space left.*Make room, and run again") as caught:
        journal.append(answer(2))
    assert str(tmp_path) in caught.value.message
    monkeypatch.undo()
    assert (tmp_path / store.RESPONSES).read_bytes() == answer(1)
    journal.append(answer(3))
    assert (tmp_path / store.RESPONSES).read_bytes() == answer(1) + answer(3)


FULL = """
import resource, signal, sys
from pathlib import Path
from toolkit.errors import RunError
from toolkit.experiments import store
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
journal = store.Journal(Path(sys.argv[1]) / store.RESPONSES)
line = store.line({"cell_id": "0" * 32, "body": "x" * 250})
try:
    while True:
        journal.append(line)
except RunError as error:
    print(error.message)
try:
    store.write(Path(sys.argv[1]) / "frame", b"y" * 2000)
except RunError as error:
    print(error.message)
"""


def test_a_file_that_may_not_grow_is_whole_lines(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", FULL, str(tmp_path)], capture_output=True, text=True, timeout=120
    )
    assert done.stdout.count("cannot be written: File too large") == 2, done.stderr
    data = (tmp_path / store.RESPONSES).read_bytes()
    assert data.count(b"\n") == 3 and data.endswith(b'"}\n')
    assert [path.name for path in tmp_path.iterdir()] == [store.RESPONSES]


def test_files_are_replaced_whole_or_not_at_all(tmp_path):
    path = tmp_path / "manifest.json"
    store.write(path, "old")

    def fail(beside):
        beside.write_text("half")
        raise OSError(errno.ENOSPC, "full")

    with pytest.raises(RunError):
        store.write(path, fail)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_one_process_writes(tmp_path):
    with store.locked(tmp_path):
        with pytest.raises(RunError, match="another process"), store.locked(tmp_path):
            pass
    with store.locked(tmp_path):
        pass


HOLD = """
import sys
from pathlib import Path
from toolkit.experiments import store
with store.locked(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_killed_process_holds_nothing(tmp_path):
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        with pytest.raises(RunError, match="another process"), store.locked(tmp_path):
            pass
        process.send_signal(signal.SIGKILL)
        process.wait(timeout=60)
        with store.locked(tmp_path):
            pass


def test_half_characters_of_a_server_are_kept(tmp_path, journal):
    body = {"choices": [{"index": 0, "text": "a\ud83d"}]}
    journal.append(answer(1, body=body))
    good, _ = store.outcomes(tmp_path)
    assert next(store.responses(tmp_path, good.values()))["body"] == body


def test_a_damaged_line_is_named(tmp_path):
    path = tmp_path / store.RESPONSES
    body = b'{"choices":[{"text":"a"}],"x"}'
    path.write_bytes(b'{"cell_id":"' + CELL.encode() + b'","body":' + body + b"}\n")
    good, _ = store.outcomes(tmp_path)
    with pytest.raises(RunError, match=f"line of {CELL} is damaged.*Delete the line"):
        list(store.responses(tmp_path, good.values()))


def test_lines_of_another_program_are_read(tmp_path):
    path = tmp_path / store.RESPONSES
    spaced = b'{ "body": {"choices": [{"text": "a"}]}, "cell_id": "' + CELL.encode() + b'" }\r\n'
    failed = store.line({"error": {"message": "no"}, "cell_id": "f" * 32})
    path.write_bytes(answer(1) + spaced + b"[]\n7\n" + failed + answer(2))
    good, bad = store.outcomes(tmp_path)
    assert list(good) == [f"{1:032x}", CELL, f"{2:032x}"]
    assert bad == {"f" * 32: len(answer(1)) + len(spaced) + len(b"[]\n7\n")}


@pytest.mark.parametrize(
    "body",
    [
        {"error": {"message": "no"}},
        {"choices": None},
        {"choices": []},
        {"choices": [3]},
        {"choices": [{"text": None}]},
        None,
    ],
)
def test_a_body_without_choices_is_no_answer(tmp_path, journal, body):
    journal.append(answer(1, body=body))
    assert store.outcomes(tmp_path) == ({}, {})


def test_two_lines_in_one_are_no_answer(tmp_path):
    (tmp_path / store.RESPONSES).write_bytes(answer(1)[:-9] + answer(2) + answer(3))
    assert list(store.outcomes(tmp_path)[0]) == [f"{3:032x}"]


def test_requests_are_read_once_and_by_place(tmp_path):
    lines = [
        {"cell_id": f"{i:032x}", "prompt_index": i, "index": i, "request": {"prompt": "a"}}
        for i in range(4)
    ]
    data = [*map(store.line, lines)]
    spaced = json.dumps(lines[2]).encode() + b"\n"
    path = tmp_path / store.REQUESTS
    path.write_bytes(data[3] + spaced + data[0] + data[0] + b"garbage\n" + data[1][:50])
    assert [line["index"] for line in store.requests(tmp_path)] == [0, 2, 3]
    assert store.asked(tmp_path) == {(f"{i:032x}", i) for i in (0, 2, 3)}
