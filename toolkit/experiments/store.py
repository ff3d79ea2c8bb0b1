"""A run folder: what is in it, how it is written so that nothing is lost, how it is read.

    config.yaml       the declaration as it was resolved
    prompts.jsonl     its prompts, where they came from a file or are many
    manifest.json     versions, machine, sums of weights and tokenizer, sessions
    requests.jsonl    a line a cell: what is asked; written before anything is asked
    responses.jsonl   a line an answer or a failure, as they came
    *.parquet         the frames, once every cell has an answer
    DONE              every cell has an answer, and the frames are written
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

_ANSWERED = re.compile(rb'\{"cell_id":"([0-9a-f]{32})",("error":)?')
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
    without one. Nothing is parsed: a million lines take seconds."""
    good: dict[str, int] = {}
    bad: dict[str, int] = {}
    for match, start in _scan(folder / RESPONSES, _ANSWERED):
        cell = match[1].decode()
        if match[2]:
            bad[cell] = start
        else:
            good.setdefault(cell, start)
    return good, {cell: start for cell, start in bad.items() if cell not in good}


def is_failure(raw: bytes) -> bool:
    """Whether a line of responses.jsonl says that its cell has no answer."""
    match = _ANSWERED.match(raw)
    return match is not None and match[2] is not None


def asked(folder: Path) -> set[tuple[str, int]]:
    """Cell and number of the prompt of each line in requests.jsonl."""
    found = _scan(folder / REQUESTS, _ASKED)
    return {(match[1].decode(), int(match[2])) for match, _ in found}


def _scan(path: Path, form: re.Pattern[bytes]) -> Iterator[tuple[re.Match[bytes], int]]:
    """The whole lines of a form, and where they start."""
    start = 0
    if not path.exists():
        return
    with path.open("rb") as file:
        for raw in file:
            match = form.match(raw)
            if match and raw.endswith(b"}\n"):
                yield match, start
            start += len(raw)


def requests(folder: Path) -> Iterator[dict[str, Any]]:
    """The lines of requests.jsonl in the order of the plan; a torn last one is left out."""
    path = folder / REQUESTS
    places = sorted((int(match[3]), start) for match, start in _scan(path, _ASKED))
    for raw in _lines(path, [start for _, start in places]):
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
