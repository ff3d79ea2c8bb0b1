"""The engine: owns the device, runs jobs together, and gives back what it drew.

One thread drives the device. It admits waiting jobs between blocks of decode steps, sends the next
block before it reads the last one, and never waits for whoever reads the events. A caller that
loses interest cancels its tickets; their rows are free after the block that runs.
"""

from __future__ import annotations

import atexit
import collections
import contextlib
import dataclasses
import itertools
import logging
import queue
import threading
import time
import weakref
from collections.abc import Iterable, Sequence

import jax
import numpy as np

from toolkit.engine.batch import Batch
from toolkit.engine.events import events_of
from toolkit.engine.groups import Group, group_of
from toolkit.engine.job import Event, Failed, Job, Ticket
from toolkit.engine.prefill import Prefill
from toolkit.engine.prefixes import Prefix, Prefixes
from toolkit.engine.programs import crowded, drop_programs
from toolkit.engine.scheduler import Limits, Scheduler
from toolkit.engine.stats import Stats
from toolkit.engine.steps import Steps
from toolkit.engine.trials import Trials
from toolkit.errors import EngineClosed, EngineFault, QueueFull, ToolkitError
from toolkit.models.decoder import Decoder
from toolkit.models.sharding import Split
from toolkit.sampling.drawn import Drawn

log = logging.getLogger("toolkit.engine")

CLOSED = "The engine is closed. Load the model again with `toolkit.load()`."

IN_FLIGHT = 2
"""Blocks that are sent before the oldest is read: the host works on one while the device runs the
next."""

PREFILL = 512
"""Prompt tokens that are computed in a turn while no row runs."""

BLOCK = 8
"""Most decode steps in a dispatch on an accelerator. On CPU it is one: a step takes far longer than
its dispatch."""


_ONE_AT_A_TIME = threading.Lock()
"""Of engines on meshes: devices that wait for each other must meet all programs in the same order,
and two threads that send them could interleave."""


@dataclasses.dataclass(frozen=True)
class Block:
    """Decode steps that were sent to the device, and who sat in which row at that time."""

    drawn: Drawn
    tickets: list[Ticket | None]
    """By row; None where nobody waits for the row's tokens."""
    timed: int = 0
    """Decode steps whose time is known; 0 for first tokens and for a block that was compiled."""


class Engine:
    """Runs many sequences on one device, or on a mesh of them that the decoder was loaded for.
    Thread-safe: any thread may submit and cancel."""

    def __init__(
        self,
        decoder: Decoder,
        *,
        limits: Limits,
        split: Split | None = None,
        prefix_bytes: int = 2**28,
        max_waiting: int = 4096,
    ):
        self.config = decoder.config if split is None else split.config
        self.split = split
        self.limits = limits
        self.max_waiting = max_waiting
        self.steps, self.leaves = Steps.of(decoder, split)
        self.dtype = self.leaves[0].dtype
        self._on_cpu = jax.default_backend() == "cpu"
        self._weight_bytes = sum(leaf.nbytes for leaf in self.leaves)
        if decoder.head is not None:  # of the embedding only the rows of a step's tokens are read
            self._weight_bytes -= decoder.embedding[...].nbytes
        self.stats = Stats(reads_memory=self._on_cpu)
        self._prefixes = Prefixes(prefix_bytes)
        self._scheduler = Scheduler(limits)
        self._wake = threading.Condition()
        self._inbox: collections.deque[Ticket] = collections.deque()
        self._closed = False
        self._thread: threading.Thread | None = None
        self._batch = Batch(self.steps, self._scheduler, self.stats, dtype=self.dtype)
        self._prefill: Prefill | None = None
        self._blocks: collections.deque[Block] = collections.deque()
        self._chunks: collections.deque[jax.Array] = collections.deque()  # logits after them
        self._clock = 0.0
        self._arriving: list[tuple[Ticket, Prefix]] = []  # left the queue, have no row yet
        self._trials = Trials()
        self._dispatch = contextlib.nullcontext() if split is None else _ONE_AT_A_TIME

    # --- any thread ---------------------------------------------------------------------------

    def submit(self, jobs: Sequence[Job]) -> tuple[list[Ticket], queue.SimpleQueue[Event]]:
        """Queue jobs, all or none. Their events arrive in one queue, in order for each ticket.

        Raises QueueFull when more would wait than `max_waiting`, and EngineClosed after `close`.
        """
        events: queue.SimpleQueue[Event] = queue.SimpleQueue()
        tickets = [Ticket(job, events) for job in jobs]
        with self._wake:
            if self._closed:
                raise EngineClosed(CLOSED)
            waiting = len(self._inbox) + len(self._scheduler.waiting) + len(self._trials.held)
            if waiting + len(tickets) > self.max_waiting:
                raise QueueFull(
                    f"{waiting} sequences wait already and {len(tickets)} more do not fit the "
                    f"queue of {self.max_waiting}. Try again later or ask for fewer."
                )
            self._inbox.extend(tickets)
            if self._thread is None:
                self._start()
            self._wake.notify()
        return tickets, events

    def cancel(self, tickets: Sequence[Ticket]) -> None:
        """Free the tickets' rows after the block that runs. No further event is of interest."""
        for ticket in tickets:
            ticket.cancelled = True
        with self._wake:
            self._wake.notify()

    @property
    def blocks(self) -> list[int]:
        """Decode steps that one dispatch may hold."""
        return [1 << i for i in range((1 if self._on_cpu else BLOCK).bit_length())]

    @property
    def running(self) -> int:
        """Sequences that have a row and are not cancelled."""
        return sum(not (t.over or t.cancelled) for t in self._scheduler.running)

    def forget_prompts(self) -> None:
        """Empty the store of prompts, as if none had been computed before. Call it while idle."""
        self._prefixes.clear()

    def stop(self) -> None:
        """Ask the engine to end all jobs with EngineClosed, and do not wait for it."""
        with self._wake:
            self._closed = True
            self._wake.notify()

    def close(self) -> None:
        """End all jobs with EngineClosed and give the memory back. May be called twice."""
        self.stop()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join()
        self.leaves = ()
        self._prefixes.clear()

    def _start(self) -> None:
        thread = threading.Thread(target=self._run, name="toolkit-engine", daemon=True)
        engine = weakref.ref(self)

        def finish() -> None:
            if (alive := engine()) is not None:
                alive.stop()
            thread.join()

        # A daemon thread inside XLA while the interpreter shuts down would crash the process.
        atexit.register(finish)
        self._thread = thread
        thread.start()

    # --- the engine's own thread -----------------------------------------------------------------

    def _run(self) -> None:
        self._serve()
        waiting = [*self._scheduler.waiting, *self._trials.everybody, *self._inbox]
        fail(self._scheduler.running, EngineClosed("The engine was closed while the request ran."))
        fail(waiting, EngineClosed("The engine was closed while the request waited."))
        self._forget_batch()

    def _serve(self) -> None:
        while self._await_work():
            try:
                self._turn()
                if self._trials and self._trials.acquit():
                    self._next_trial()
            except Exception as error:  # one bad step must not end the thread that serves everybody
                log.exception("a step failed")
                self._recover(EngineFault(f"A step failed: {type(error).__name__}: {error}"))

    def _await_work(self) -> bool:
        """Take what was submitted; sleep while there is nothing to do. False once closed."""
        with self._wake:
            while True:
                if not self._trials:
                    self._scheduler.waiting.extend(self._inbox)
                    self._inbox.clear()
                self._drop_finished()
                if self._closed or self._busy:
                    return not self._closed
                self._wake.wait()

    def _drop_finished(self) -> None:
        """Free what tickets that are over or cancelled held: rows, and a prompt's cache."""
        self._scheduler.drop_finished()
        waiting = self._scheduler.waiting
        if self._prefill and not (waiting and self._prefill.serves(waiting[0].job)):
            self._prefill = None

    @property
    def _busy(self) -> bool:
        scheduler = self._scheduler
        return bool(scheduler.waiting or scheduler.running or self._blocks or self._trials)

    def _turn(self) -> None:
        compiled = len(self.stats.compiles)
        with self._dispatch:
            seated = self._admit()
        if seated:
            self._read_all_but(0)  # a first token goes out before the next step is even sent
        with self._dispatch:
            sent = self._decode()
        self._read_all_but(IN_FLIGHT - 1 if sent else 0)
        if len(self.stats.compiles) > compiled and crowded():
            self._drop_programs()

    def _drop_programs(self) -> None:
        """Go on with no program in memory."""
        jax.block_until_ready([*self._chunks, *(block.drawn for block in self._blocks)])
        drop_programs()

    def _read_all_but(self, newest: int) -> None:
        """Read the blocks that were sent, but for some of the newest."""
        while len(self._blocks) > newest:
            self._read(self._blocks.popleft())
            self._scheduler.drop_finished()

    def _recover(self, error: ToolkitError) -> None:
        """A step failed. Everybody who was in the batch starts again, on trial (see `Trials`); who
        makes steps fail alone ends with the error."""
        scheduler, trials = self._scheduler, self._trials
        scheduler.drop_finished()
        present = [*scheduler.running, *(t for t, _ in self._arriving if t.row is None)]
        if not present and scheduler.waiting:  # the turn was about the next one's prompt
            present = [scheduler.waiting.popleft()]
        if not trials:
            trials.held.extend(scheduler.waiting)
        fail(trials.accuse(present), error)
        self._next_trial()

    def _next_trial(self) -> None:
        """An empty batch for those on trial, or for everybody when nobody is left to try."""
        self._forget_batch()
        self._scheduler.waiting = collections.deque(self._trials.waiting())

    def _forget_batch(self) -> None:
        """Whatever the device has computed may be lost, or may fail when it is read."""
        self._scheduler.rows = []
        self._blocks.clear()
        self._chunks.clear()
        self._arriving = []
        self._prefill = None
        self._batch.clear()
        self._prefixes.clear()

    # --- prompts ----------------------------------------------------------------------------------

    def _admit(self) -> bool:
        """Seat waiting tickets whose prompt is in the cache, and compute chunks of the next
        prompts: one while rows run, a few when none do. Whether somebody was seated."""
        waiting = self._scheduler.waiting
        self._arriving = arrivals = []
        running = len(self._scheduler.running)
        budget = 1 if running else PREFILL
        while waiting and running + len(arrivals) < self.limits.max_rows:
            ticket = waiting[0]
            prefix = self._prefixes.find(ticket.job.prompt, score=ticket.job.score)
            if prefix is None and budget <= 0:
                break
            if prefix is None:
                budget -= self._compute_chunk(ticket)
                continue
            logits = self._whole(prefix.logits) if ticket.job.logits else None
            waiting.popleft()
            self._prefill = None
            ticket.prompted(prefix.scores, logits)
            if not ticket.over:
                arrivals.append((ticket, prefix))
        if arrivals:
            self._blocks.append(Block(*self._batch.seat(arrivals)))
        self._arriving = []
        return bool(arrivals)

    def _whole(self, logits: jax.Array) -> jax.Array | np.ndarray:
        """The logits of all ids."""
        if self.split is None:
            return logits
        return self.steps.read(logits)[: self.config.vocab_size]

    def _compute_chunk(self, ticket: Ticket) -> int:
        """One more chunk of a ticket's prompt, or a group of short prompts with it; how many
        tokens. A fault ends this ticket alone; after one in a group each prompt is computed by
        itself."""
        try:
            if self._prefill is None or not self._prefill.serves(ticket.job):
                group = self._group(ticket)
                with self.stats.watch("stretch"):
                    self._prefill = Prefill.begin(group, self.steps, self.leaves, self._prefixes)
                self.stats.reused += self._prefill.reused
            while len(self._chunks) >= IN_FLIGHT:  # what was sent can no longer be cancelled
                jax.block_until_ready(self._chunks.popleft())
            with self.stats.watch(self._prefill.program):
                count = self._prefill.advance()
            if self._prefill.logits is not None:
                self._chunks.append(self._prefill.logits)
            if self._prefill.done:
                with self.stats.watch("rows_apart"):
                    results = self._prefill.results()
                self._prefixes.keep(*results)
        except Exception as error:
            log.exception("a prompt failed")
            group, self._prefill = self._prefill, None
            if group is not None and len(group.jobs) > 1:
                for other in self._scheduler.waiting:
                    other.alone = other.alone or group.serves(other.job)
                return 0
            self._scheduler.waiting.popleft()
            fail([ticket], EngineFault(f"Prefill failed: {error}"))
            return 0
        self.stats.prefilled += count
        return count

    def _group(self, ticket: Ticket) -> Group:
        """The prompts that are computed together with this ticket's."""
        if ticket.alone:
            return Group((ticket.job,))
        others = itertools.islice(self._scheduler.waiting, 1, None)
        jobs = (t.job for t in others if not (t.alone or t.cancelled))
        return group_of(ticket.job, jobs, self._prefixes)

    # --- the batch --------------------------------------------------------------------------------

    def _decode(self) -> bool:
        """Send one more block if some row still needs tokens; whether one was sent."""
        scheduler = self._scheduler
        count = scheduler.block(self.blocks[-1])
        if not count:
            return False
        self._batch.fit(0, scheduler.wanted_slots(count))
        if not self._blocks:
            self._clock = time.perf_counter()
        compiled = len(self.stats.compiles)
        drawn = self._batch.step(self.leaves, count)
        for ticket in scheduler.running:
            ticket.dispatched += count
        scheduler.note_steps(count)
        self.stats.steps += count
        self.stats.buckets[self._batch.bucket] += count
        timed = count if len(self.stats.compiles) == compiled else 0
        self._blocks.append(Block(drawn, list(scheduler.rows), timed))
        return True

    def _read(self, block: Block) -> None:
        """Wait for a block and pass its tokens on."""
        drawn = self.steps.read(block.drawn)
        before = self.stats.generated
        began, self._clock = self._clock, time.perf_counter()
        for row, ticket in enumerate(block.tickets):
            if ticket is not None and not (ticket.over or ticket.cancelled):
                told = len(ticket.told)
                try:
                    ticket.take(events_of(drawn, row, ticket.job.report))
                except Exception as error:  # the device did its part: no other row is concerned
                    log.exception("a token could not be passed on")
                    fail([ticket], EngineFault(f"A token could not be passed on: {error}"))
                self.stats.generated += len(ticket.told) - told
        if block.timed:
            self.stats.decode_seconds += self._clock - began
            self.stats.decoded += self.stats.generated - before
            self.stats.read_bytes += block.timed * self._step_bytes()

    def _step_bytes(self) -> int:
        """Weights and used slots of the cache that a decode step reads."""
        c = self.config
        each = 2 * c.layers * c.kv_heads * c.head_width * self.dtype.itemsize
        return self._weight_bytes + self._batch.read_slots() * each


def fail(tickets: Iterable[Ticket], error: ToolkitError) -> None:
    for ticket in tickets:
        ticket.finish(Failed(ticket, error))
