"""A run folder: what is in it, how it is written so that nothing is lost, how it is read.

    config.yaml       the declaration as it was resolved
    prompts.jsonl     its prompts, where they came from a file or are many
    manifest.json     versions, machine, sums of weights and tokenizer, sessions
    requests.jsonl    a line a cell: what is asked; written before anything is asked
    responses.jsonl   a line an answer or a failure, as they came
    *.parquet         the frames, once every cell has an answer
    DONE              every cell has an answer, and the frames are written; how many there are
    plots/            the pictures that the declaration asks for

The two JSONL files only grow; a declaration that was changed makes a new list of requests, and the
answers stay, for those of its cells that were asked before.

A line goes to the operating system in one write when its cell ends, so a killed process loses the
cells in flight and nothing else; it is forced to disk (fsync) at most `SYNC` seconds later, so a
power cut loses the cells of that time. A last line without its newline is torn: it is cut off
before the next one is written, and its cell is asked again. All other files are written beside
their place, forced to disk, and moved there.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import filelock

from toolkit.errors import RunError

SYNC = 1.0
"""Seconds between two times that answers are forced to disk."""

REQUESTS, RESPONSES = "requests.jsonl", "responses.jsonl"
CONFIG, PROMPTS, MANIFEST = "config.yaml", "prompts.jsonl", "manifest.json"
DONE, LOCK = "DONE", ".lock"

_NAME = re.compile("[0-9a-f]{32}")
_BEGIN = b'{"cell_id":"'
_ANSWERED = re.compile(rb'\{"cell_id":"([0-9a-f]{32})",(?!"error":)')
_USABLE = (b'"choices":[{', b'"text":"')
_ASKED = re.compile(rb'\{"cell_id":"([0-9a-f]{32})","prompt_index":([0-9]+),"index":([0-9]+),')


class Journal:
    """A JSONL file that only grows. One process writes it at a time: see `locked`."""

    def __init__(self, path: Path):
        self.path = path
        with space(path.parent):
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
            self._size = _whole(path)
            os.ftruncate(self._file, self._size)
        self._synced = time.monotonic()

    def append(self, data: bytes) -> None:
        """Add lines, each with its newline at the end. All of them are written, or none.

        Raises RunError when the disk is full or the file may not grow.
        """
        try:
            with space(self.path.parent):
                left = memoryview(data)
                while left:
                    left = left[os.write(self._file, left) :]
        except RunError:
            os.ftruncate(self._file, self._size)  # half a line goes
            raise
        self._size += len(data)
        if time.monotonic() - self._synced > SYNC:
            self.sync()

    def sync(self) -> None:
        """Force what was written to disk."""
        with space(self.path.parent):
            os.fsync(self._file)
        self._synced = time.monotonic()

    def close(self) -> None:
        """Force to disk and close."""
        if self._file >= 0:
            descriptor, self._file = self._file, -1
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep other processes from writing into a run folder. The lock ends with the process.

    Raises RunError while another one holds it.
    """
    lock = filelock.FileLock(folder / LOCK, timeout=0)
    try:
        lock.acquire()
    except filelock.Timeout:
        raise RunError(
            f"{folder} is being written by another process. Wait for it, or choose another folder "
            "with --out."
        ) from None
    try:
        yield
    finally:
        lock.release()


def make_folder(folder: Path) -> None:
    """Make a folder unless it is there. Raises RunError where there is a file in its place."""
    try:
        with space(folder):
            folder.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise RunError(f"`out` {folder}: a file is in its place. Choose another folder.") from None


def visible(folder: Path) -> list[str]:
    """Names of what a folder holds, without hidden files; none where there is no folder."""
    found = folder.iterdir() if folder.is_dir() else ()
    return sorted(path.name for path in found if not path.name.startswith("."))


def write(path: Path, make: str | bytes | Callable[[Path], object]) -> None:
    """Write a file whole or not at all: text, bytes, or whatever a function puts at a path.

    Raises RunError when the disk is full; what stood there before is still there then.
    """
    beside = path.with_name(f".{path.name}.part")
    try:
        with space(path.parent):
            if isinstance(make, str):
                beside.write_text(make, encoding="utf-8")
            elif isinstance(make, bytes):
                beside.write_bytes(make)
            else:
                make(beside)
            _sync(beside)
            os.replace(beside, path)
            _sync(path.parent)
    except BaseException:
        with contextlib.suppress(OSError):
            beside.unlink(missing_ok=True)
        raise


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def space(folder: Path) -> Iterator[None]:
    """Turn a full disk into a RunError that says what to do."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES):
            raise
        raise RunError(
            f"{folder} cannot be written: {os.strerror(error.errno)}. What was recorded before is "
            "whole. Make room, and run again to go on."
        ) from None


# --- reading --------------------------------------------------------------------------------------


def line(value: Any) -> bytes:
    """A line of a JSONL file. What a server sent may hold NaN and halves of characters."""
    try:
        return _dumped(value, ascii_only=False).encode()
    except UnicodeEncodeError:
        return _dumped(value, ascii_only=True).encode()


def _dumped(value: Any, *, ascii_only: bool) -> str:
    return json.dumps(value, ensure_ascii=ascii_only, separators=(",", ":")) + "\n"


def outcomes(folder: Path) -> tuple[dict[str, int], dict[str, int]]:
    """Where the line of each cell's answer starts, and that of the last failure of each cell
    without one. Lines as they are written here are not parsed: a million take seconds."""
    good: dict[str, int] = {}
    bad: dict[str, int] = {}
    for raw, start in _scan(folder / RESPONSES):
        found = _outcome(raw)
        if found is None:
            continue
        if found[1]:
            bad[found[0]] = start
        else:
            good.setdefault(found[0], start)
    return good, {cell: start for cell, start in bad.items() if cell not in good}


def _outcome(raw: bytes) -> tuple[str, bool] | None:
    """Cell of a line of responses.jsonl, and whether it failed; None for a damaged line and for a
    server's body that holds no answer."""
    match = _ANSWERED.match(raw)
    if match and _one(raw) and all(mark in raw for mark in _USABLE):
        return match[1].decode(), False
    value = _object(raw)
    error, cell = value.get("error"), str(value.get("cell_id"))
    if not _NAME.fullmatch(cell):
        return None
    if isinstance(value.get("record"), dict) or usable(value.get("body")):
        return cell, False
    return (cell, True) if isinstance(error, dict) and "message" in error else None


def usable(body: Any) -> bool:
    """Whether a server's answer has choices, each with its text."""
    choices = body.get("choices") if isinstance(body, dict) else None
    if not isinstance(choices, list) or not choices:
        return False
    return all(isinstance(item, dict) and isinstance(item.get("text"), str) for item in choices)


def is_failure(raw: bytes) -> bool:
    """Whether a line of responses.jsonl says that its cell has no answer."""
    found = _outcome(raw)
    return found is None or found[1]


def asked(folder: Path) -> set[tuple[str, int]]:
    """Cell and number of the prompt of each line in requests.jsonl."""
    places = (_place(raw) for raw, _ in _scan(folder / REQUESTS))
    return {place[:2] for place in places if place}


def _place(raw: bytes) -> tuple[str, int, int] | None:
    """Cell, number of the prompt and place in the plan of a line of requests.jsonl; None for a
    damaged line."""
    match = _ASKED.match(raw)
    if match and _one(raw):
        return match[1].decode(), int(match[2]), int(match[3])
    value = _object(raw)
    cell, prompt, index = str(value.get("cell_id")), value.get("prompt_index"), value.get("index")
    if type(prompt) is not int or type(index) is not int or not _NAME.fullmatch(cell):
        return None
    return (cell, prompt, index) if isinstance(value.get("request"), dict) else None


def _one(raw: bytes) -> bool:
    """Whether a line looks like one object, and not like two that ran into each other."""
    return raw.endswith(b"}\n") and raw.rfind(_BEGIN) == 0


def _object(raw: bytes) -> dict[str, Any]:
    """A line that another program wrote; empty where it is damaged."""
    try:
        value = json.loads(raw)
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _scan(path: Path) -> Iterator[tuple[bytes, int]]:
    """The whole lines, and where they start."""
    start = 0
    if not path.exists():
        return
    with path.open("rb") as file:
        for raw in file:
            if raw.endswith(b"\n"):
                yield raw, start
            start += len(raw)


def requests(folder: Path) -> Iterator[dict[str, Any]]:
    """The lines of requests.jsonl in the order of the plan, each once; a torn last one is left
    out."""
    path = folder / REQUESTS
    places: dict[tuple[str, int], tuple[int, int]] = {}
    for raw, start in _scan(path):
        place = _place(raw)
        if place:
            places.setdefault(place[:2], (place[2], start))
    for raw in _lines(path, [start for _, start in sorted(places.values())]):
        yield parsed(raw, path)


def responses(folder: Path, starts: Iterable[int]) -> Iterator[dict[str, Any]]:
    """The lines of responses.jsonl that start at these places."""
    for raw in raw_responses(folder, starts):
        yield parsed(raw, folder / RESPONSES)


def raw_responses(folder: Path, starts: Iterable[int]) -> Iterator[bytes]:
    """The same as they stand in the file."""
    return _lines(folder / RESPONSES, list(starts))


def _lines(path: Path, starts: Sequence[int]) -> Iterator[bytes]:
    if starts:
        with path.open("rb") as file:
            for start in starts:
                file.seek(start)
                yield file.readline()


def parsed(raw: bytes, path: Path) -> dict[str, Any]:
    """A line as an object. Raises RunError that names it."""
    try:
        return json.loads(raw)
    except ValueError as error:
        raise RunError(
            f"{path}: the line of {raw[12:44].decode(errors='replace')} is damaged: {error}. "
            "Delete the line and run again: its cell is asked anew."
        ) from None


def _whole(path: Path) -> int:
    """Bytes up to and with the last newline."""
    size = path.stat().st_size
    with path.open("rb") as file:
        end = size
        while end > 0:
            begin = max(0, end - 65536)
            file.seek(begin)
            found = file.read(end - begin).rfind(b"\n")
            if found >= 0:
                return begin + found + 1
            end = begin
    return 0
