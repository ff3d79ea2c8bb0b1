"""Cells on many machines with Ray: an actor an accelerator, one process that writes.

Without accelerators there is one actor on each node. An actor that is lost gives its cells back,
which others are asked for; a cell is named by its request and its model, so whoever answers gives
the same.
"""

# pyright: reportMissingImports=false
# Ray is an extra.

from __future__ import annotations

import contextlib
import logging
import os
import threading
import time
from collections.abc import Iterator, Mapping
from typing import Any

from toolkit.errors import RunError, TargetError
from toolkit.experiments import manifest as manifests
from toolkit.experiments.ask import AskModel
from toolkit.experiments.conduct import Options, open_target, threads
from toolkit.experiments.declaration import ModelPart, ServerPart, target_name
from toolkit.experiments.pool import Outcome
from toolkit.experiments.runner import Crew
from toolkit.experiments.target import Answer, Local, Target

ACCELERATORS = ("GPU", "TPU")
POLL = 0.2
"""Seconds between two looks for a request to stop."""
PATIENCE = 600.0
"""Seconds that a cell may wait for a lost actor to come back."""


class Worker:
    """A model on one accelerator; an actor."""

    def __init__(self, part: ModelPart):
        self._stack = contextlib.ExitStack()
        target = self._stack.enter_context(open_target(part))
        if not isinstance(target, Local):
            raise RunError("A server needs no worker.")
        self._target = target
        self._ask = AskModel(target)

    def describe(self) -> dict[str, Any]:
        """Who answers here, and on what."""
        rows = self._target.lm.engine.limits.max_rows
        return {
            "identity": self._target.identity(),
            "devices": manifests.devices(),
            "rows": rows,
        }

    def pid(self) -> int:
        """The process of this worker."""
        return os.getpid()

    def ask(self, line: Mapping[str, Any]) -> bytes:
        """A cell's line in responses.jsonl."""
        return self._ask(line)


class Actors:
    """A model on every accelerator, as a target that names itself. `RayCrew` asks it."""

    def __init__(self, part: ModelPart, workers: list[Any], described: list[dict[str, Any]]):
        self.name = target_name(part)
        self.workers = workers
        self.described = described

    def identity(self) -> dict[str, Any]:
        """Of the model, which is the same everywhere."""
        return self.described[0]["identity"]

    @property
    def devices(self) -> dict[str, Any]:
        """What the actors run on."""
        return {**self.described[0]["devices"], "actors": len(self.workers)}

    def complete(self, fields: Mapping[str, Any]) -> Answer:
        """Not here: cells are asked by name."""
        raise RunError("Actors answer cells of a run only. Load the model with `toolkit.load`.")

    def tokenize(self, text: str) -> list[int] | None:
        """Nobody tells."""
        return None

    def close(self) -> None:
        """Give the accelerators back."""
        import ray

        for worker in self.workers:
            ray.kill(worker)
        self.workers = []


def options(given: Options) -> Options:
    """The same options with models on Ray."""
    _connect()
    return Options(
        shard=given.shard,
        progress=given.progress,
        stop=given.stop,
        opener=_open,
        crews=_crew,
    )


def _connect() -> None:
    try:
        import ray
    except ImportError:
        raise RunError(
            '`--on ray` needs Ray: pip install "completion-toolkit[ray]". Or use `--shard`.'
        ) from None
    if not ray.is_initialized():
        ray.init(log_to_driver=False, logging_level=logging.ERROR)


@contextlib.contextmanager
def _open(part: ModelPart | ServerPart) -> Iterator[Target]:
    if isinstance(part, ServerPart):
        with open_target(part) as target:
            yield target
        return
    import ray

    workers = _start(part)
    described = ray.get([worker.describe.remote() for worker in workers])
    for other in described[1:]:
        changed = manifests.differences(described[0]["identity"], other["identity"])
        if changed:
            raise RunError(f"The nodes have different models: {'; '.join(changed)}.")
    with contextlib.closing(Actors(part, workers, described)) as actors:
        yield actors


def _start(part: ModelPart) -> list[Any]:
    """An actor for each accelerator, else one on each node; Ray restarts those that are lost."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    # As many calls at a time as fill the batch twice: see `runner.width`.
    common = {"max_restarts": -1, "max_concurrency": 2 * part.max_batch + 1}
    actor = ray.remote(Worker)
    resources = ray.cluster_resources()
    for name in ACCELERATORS:
        count = int(resources.get(name, 0))
        if count:
            needs = {"num_gpus": 1} if name == "GPU" else {"resources": {name: 1}}
            spread = {"scheduling_strategy": "SPREAD"}
            return [actor.options(**common, **needs, **spread).remote(part) for _ in range(count)]
    nodes = [node["NodeID"] for node in ray.nodes() if node["Alive"]]
    return [
        actor.options(
            **common,
            num_cpus=1,
            scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=True),
        ).remote(part)
        for node in nodes
    ]


def _crew(target: Target, part: ModelPart | ServerPart, choices: int) -> Crew:
    if not isinstance(target, Actors):
        return threads(target, part, choices)
    each = max(2, 2 * -(-target.described[0]["rows"] // choices))
    return RayCrew(target.workers, each=each)


class RayCrew:
    """Asks actors for cells; those of a lost actor are asked of another."""

    def __init__(self, workers: list[Any], *, each: int):
        self.width = each * len(workers)
        self._workers = workers
        self._flying: dict[Any, tuple[Mapping[str, Any], int]] = {}
        self._load = [0] * len(workers)
        self._lost_at: dict[str, float] = {}
        self._woken = threading.Event()

    def start(self, line: Mapping[str, Any]) -> None:
        """Ask the actor that has the least to do."""
        self._send(line, self._load.index(min(self._load)))

    def next(self) -> Outcome | None:
        """What comes first; None after `wake`."""
        import ray

        while True:
            if self._woken.is_set():
                self._woken.clear()
                return None
            ready, _ = ray.wait(list(self._flying), num_returns=1, timeout=POLL)
            if ready and (outcome := self._outcome(ready[0])) is not None:
                return outcome

    def wake(self) -> None:
        """Let `next` return."""
        self._woken.set()

    def drop(self) -> None:
        """Forget what is asked: the actors are ended by whoever made them."""
        self._flying.clear()

    def close(self) -> None:
        """Nothing to give back."""

    def _send(self, line: Mapping[str, Any], number: int) -> None:
        self._flying[self._workers[number].ask.remote(line)] = (line, number)
        self._load[number] += 1

    def _outcome(self, ready: Any) -> Outcome | None:
        """The answer; None where its actor was lost and another one is asked."""
        import ray
        from ray.exceptions import RayError, RayTaskError

        line, number = self._flying.pop(ready)
        self._load[number] -= 1
        try:
            return Outcome(ray.get(ready))
        except RayTaskError as error:
            cause = error.cause if isinstance(error.cause, Exception) else error
            return Outcome(None, cause)
        except RayError as error:
            return self._again(line, number, error)

    def _again(self, line: Mapping[str, Any], number: int, error: Exception) -> Outcome | None:
        """Ask another actor, or the same when Ray has restarted it."""
        first = self._lost_at.setdefault(line["cell_id"], time.monotonic())
        if time.monotonic() - first > PATIENCE:
            message = f"No worker is left: {type(error).__name__}. Run again to go on."
            return Outcome(None, TargetError(message))
        others = [i for i in range(len(self._workers)) if i != number] or [number]
        self._send(line, min(others, key=self._load.__getitem__))
        return None
