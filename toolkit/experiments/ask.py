"""Asking a target for one cell: the request, tries, and the line that records what came."""

from __future__ import annotations

import json
import random
import threading
from collections.abc import Mapping
from typing import Any, Protocol

from toolkit.completion.complete import LM
from toolkit.completion.run import Run as Asked
from toolkit.errors import EngineClosed, InvalidRequest, TargetError, ToolkitError
from toolkit.experiments import store
from toolkit.experiments.compact import to_json
from toolkit.experiments.target import Local, Target, wire

LONGEST_WAIT = 60.0
"""Seconds between two tries, unless the server asks for more."""
WRONG = frozenset({401, 403, 404, 405})
"""Statuses that no other cell will fare better with: key, model or address is wrong."""


class Dropped(Exception):
    """The run was stopped before the cell had an answer."""


class Asker(Protocol):
    """From the line of a cell in requests.jsonl to its line in responses.jsonl."""

    def __call__(self, line: Mapping[str, Any]) -> bytes:
        """Raises Dropped once `drop` was called, TargetError and EngineClosed where the target
        answers nobody; what concerns this cell alone is recorded as its failure."""
        ...

    def drop(self) -> None:
        """Give up what is asked right now."""
        ...


class AskModel:
    """Asks a model in this process."""

    def __init__(self, target: Local):
        self.lm: LM = target.lm
        self._running: set[Asked] = set()
        self._lock = threading.Lock()
        self._dropped = False

    def __call__(self, line: Mapping[str, Any]) -> bytes:
        try:
            fields = {name: value for name, value in line["request"].items() if name != "prompt"}
            request = self.lm.parse(line["request"]["prompt"], fields, stream=False)
            run = Asked(self.lm, request)
            try:
                with self._lock:
                    self._running.add(run)
                if self._dropped:
                    raise Dropped
                record = run.finish()
            finally:
                run.cancel()
                with self._lock:
                    self._running.discard(run)
        except EngineClosed:
            if self._dropped:
                raise Dropped from None
            raise
        except ToolkitError as error:
            return failure(line, error)
        return store.line(
            {"cell_id": line["cell_id"], "asked": asked(line), "record": to_json(record)}
        )

    def drop(self) -> None:
        self._dropped = True
        with self._lock:
            running = list(self._running)
        for run in running:
            run.cancel()


class AskServer:
    """Asks a server; tries again where that is right: no connection, no answer in time, 408, 429,
    5xx, an error in place of an answer. Waits as long as the server asks for, else half a second,
    doubled with each try."""

    def __init__(self, target: Target, *, attempts: int):
        self.target = target
        self.attempts = attempts
        self._dropped = threading.Event()

    def __call__(self, line: Mapping[str, Any]) -> bytes:
        for attempt in range(1, self.attempts + 1):
            if self._dropped.is_set():
                raise Dropped
            try:
                answer = self.target.complete(line["request"])
                check(answer.body, line["request"])
            except TargetError as error:
                if error.code in WRONG:
                    raise
                if not error.retry or attempt == self.attempts:
                    return failure(line, error, attempts=attempt)
                self._dropped.wait(_pause(attempt, error.retry_after))
            except InvalidRequest as error:
                return failure(line, error)
            else:
                return store.line(
                    {
                        "cell_id": line["cell_id"],
                        "asked": asked(line),
                        "attempts": attempt,
                        "seconds": answer.seconds,
                        "first_token": answer.first_token,
                        "body": answer.body,
                    }
                )
        raise Dropped

    def drop(self) -> None:
        self._dropped.set()


def asker(target: Target, *, attempts: int = 5) -> Asker:
    """Whoever asks this target."""
    if isinstance(target, Local):
        return AskModel(target)
    return AskServer(target, attempts=attempts)


def check(body: Any, request: Mapping[str, Any]) -> None:
    """Raise TargetError for a body that came with status 200 and is no answer: an error, no
    choices, choices without text, or another number of them than was asked for."""
    error = body.get("error") if isinstance(body, Mapping) else None
    said = wire.words(json.dumps(body, ensure_ascii=False, default=str))
    if error:
        status = error.get("code") if isinstance(error, Mapping) else None
        raise TargetError(
            f"An error came in place of an answer, with status 200: {said}",
            code=200,
            retry=status in wire.RETRY if isinstance(status, int) else True,
        )
    if not store.usable(body):
        raise TargetError(
            f"An answer came without `choices` that have text: {said}. Is it a completions API?",
            code=200,
        )
    count, wanted = len(body["choices"]), request.get("n") or 1
    if count != wanted:
        message = f"{wanted} choices were asked for, and {count} came. Does the server know `n`?"
        raise TargetError(message, code=200)


def asked(line: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters of a cell, kept beside its answer: a later edit of the request shows."""
    return {name: value for name, value in line["request"].items() if name != "prompt"}


def failure(line: Mapping[str, Any], error: ToolkitError, *, attempts: int = 1) -> bytes:
    """The line of a cell that has no answer."""
    code = getattr(error, "code", None)
    said = {"type": type(error).__name__, "message": error.message, "code": code}
    return store.line({"cell_id": line["cell_id"], "error": said | {"attempts": attempts}})


def _pause(attempt: int, asked_for: float | None) -> float:
    """Seconds to wait; a little more or less for each, so that not all come back at once."""
    if asked_for is not None:
        return min(asked_for, 10 * LONGEST_WAIT) + random.random() / 4
    return min(0.5 * 2 ** (attempt - 1), LONGEST_WAIT) * (0.75 + random.random() / 2)
