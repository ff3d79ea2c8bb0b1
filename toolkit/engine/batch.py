"""The rows that decode together, on the device: their state, their parameters and their guides."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import jax
import numpy as np
from jax.typing import DTypeLike

from toolkit.engine.guidebook import Guidebook
from toolkit.engine.job import Ticket
from toolkit.engine.prefixes import Prefix, shared_slots
from toolkit.engine.scheduler import EXPECTED, Scheduler, expected, slot_bucket, used
from toolkit.engine.state import Arrival, DecodeState
from toolkit.engine.stats import Stats
from toolkit.engine.steps import Steps
from toolkit.models.attention import attends_by_kernel
from toolkit.models.cache import SharedPrefixes
from toolkit.sampling.drawn import Drawn
from toolkit.sampling.guide import Guide
from toolkit.sampling.params import Report, Rows, SamplingParams, bucket
from toolkit.sampling.variant import TOP, Variant


class Batch:
    """What the scheduler's rows are on the device. Its size follows who runs and who waits."""

    def __init__(self, steps: Steps, scheduler: Scheduler, stats: Stats, *, dtype: DTypeLike):
        self.steps, self.dtype = steps, dtype
        self.slots = 0
        self._scheduler, self._stats = scheduler, stats
        self._state: DecodeState | None = None
        self._rows: Rows | None = None
        self._shared: SharedPrefixes | None = None
        self._lent: list[tuple[int, int]] = []
        """For each row in which one its first slots are read, and how many."""
        self._variant = Variant()
        self._guides = Guidebook(steps.put)
        self._met: set[tuple[int, int]] = set()
        self._prepared: set[tuple[int, int]] = set()
        """Rows and slots of batches, and of those between which rows move without compiling."""

    @property
    def shape(self) -> str:
        """Names the programs of this size."""
        return shape_of(len(self._scheduler.rows), self.slots)

    @property
    def bucket(self) -> str:
        """This size in short."""
        return f"{len(self._scheduler.rows)}x{self.slots}"

    def clear(self) -> None:
        """Forget what the device holds: it may be lost."""
        self._state = None
        self._guides.clear()

    def fit(self, arriving: int, slots: int) -> None:
        """Make the batch large enough for `arriving` more rows and for `slots`, or smaller
        again."""
        scheduler = self._scheduler
        now = len(scheduler.rows), self.slots
        ready = [r for r, s in self._prepared if now in self._prepared and s == now[1]]
        rows = scheduler.wanted_rows(arriving, ready)
        ahead = EXPECTED if rows > now[0] else 1
        slots = slot_bucket(max(slots, scheduler.wanted_slots(ahead)), rows)
        fits = rows == len(scheduler.rows) and slots == self.slots
        if self._state is None or (not scheduler.running and not fits):
            self._state = None  # first, so that never two of them are in memory
            self._state = self.steps.empty(rows, slots, self.dtype)
            self.slots = slots
            scheduler.rearrange(rows)
            self._prepare()
        elif rows != len(scheduler.rows) or slots > self.slots:
            # A batch that grows has the slots that it would have had from the beginning.
            self._move(rows, slots if rows > now[0] else max(slots, self.slots))
            self._upload_rows()
            self._prepare()

    def _move(self, rows: int, slots: int) -> None:
        """Bring the running rows into a batch of another size, which has slots for all they use.

        One by one: so each size has two programs of its own, and not each pair of sizes one.
        """
        old, before = self._state, self.shape
        source = np.asarray(self._scheduler.rearrange(rows), np.int32)
        self.slots = slots
        self._state = self.steps.empty(rows, slots, self.dtype)
        share = rows // self._scheduler.limits.groups
        for row in range(share):
            if any(self._scheduler.rows[row::share]):
                self._carry(old, before, source[row::share], row)

    def _prepare(self) -> None:
        """Compile what moves rows out of and into this size, when it comes up: between sizes of as
        many slots that were met no change compiles anything. Not while there is only one, as in
        most processes."""
        size = len(self._scheduler.rows), self.slots
        if size not in self._prepared and self._met - {size}:
            self._prepared.add(size)
            first = np.zeros(self._scheduler.limits.groups, np.int32)
            self._carry(self._state, self.shape, first, 0)
        self._met.add(size)

    def _carry(self, old: DecodeState | None, before: str, source: np.ndarray, row: int) -> None:
        """Put a row of a state of the size `before` into this one's, of each group of devices."""
        with self._stats.watch(f"take_row[{before}]"):
            one = self.steps.take_row(old, source)
        with self._stats.watch(f"put_row[{self.shape}, of {before}]"):
            self._state = self.steps.put_row(self._state, one, np.int32(row))

    def seat(self, arrivals: Sequence[tuple[Ticket, Prefix]]) -> tuple[Drawn, list[Ticket | None]]:
        """Give arrivals their rows and draw their first tokens; who has got which row."""
        self.fit(len(arrivals), max(expected(ticket.job) for ticket, _ in arrivals))
        self._enter_guides([ticket.job.guide for ticket, _ in arrivals])
        pending = np.zeros(len(self._scheduler.rows), np.bool_)
        for ticket, prefix in arrivals:
            row = self._scheduler.seat(ticket)
            pending[row] = True
            self._insert(ticket, row, prefix)
            ticket.lineage, ticket.dispatched = prefix.lineage, 1
        self._upload_rows()
        with self._stats.watch(f"first[{self.shape}]"):
            self._state, drawn = self.steps.first(
                self._state, self._rows, self._guides.tables, pending, self._variant
            )
        seats = zip(self._scheduler.rows, pending, strict=True)
        return drawn, [ticket if new else None for ticket, new in seats]

    def read_slots(self) -> int:
        """Used slots of the cache that a decode step reads, those that rows share once."""
        seats, count = self._scheduler.rows, 0
        left: dict[int, int] = {}  # by row that nobody has any more: slots that others read there
        for ticket, (source, length) in zip(seats, self._lent, strict=False):
            if ticket is not None:
                count += used(ticket, 0) - length
                if seats[source] is None:
                    left[source] = max(left.get(source, 0), length)
        return count + sum(left.values())

    def step(self, leaves: tuple, count: int) -> Drawn:
        """Send `count` decode steps to the device."""
        with self._stats.watch(f"decode[{self.shape}, steps={count}]"):
            self._state, drawn = self.steps.decode(
                leaves,
                self._state,
                self._rows,
                self._guides.tables,
                self._shared,
                count,
                self._variant,
            )
        return drawn

    def _insert(self, ticket: Ticket, row: int, prefix: Prefix) -> None:
        prompt = np.full(slot_bucket(len(prefix.ids), 1), self.steps.config.vocab_size, np.int32)
        prompt[: len(prefix.ids)] = prefix.ids
        arrival = Arrival(
            row=np.int32(row),
            length=np.int32(len(prefix.ids)),
            node=np.int32(self._guides.start(ticket.job.guide)),
            prompt=prompt,
        )
        with self._stats.watch(f"insert[{self.shape}]"):
            self._state = self.steps.insert(self._state, prefix.cache, prefix.logits, arrival)

    def _enter_guides(self, guides: Sequence[Guide | None]) -> None:
        """Put new guides into the tables; rows that stand at nodes which moved follow."""
        running = [t for t in self._scheduler.running if t.job.guide]
        used = [t.job.guide for t in running if t.job.guide]
        moved = self._guides.enter(used, [guide for guide in guides if guide])
        if not any(moved.values()):
            return
        assert self._state is not None, "rows run"
        node = np.array(self.steps.read(self._state.history.node))
        for ticket in running:
            if ticket.job.guide and ticket.row is not None and node[ticket.row]:
                node[ticket.row] += moved[ticket.job.guide]
        history = dataclasses.replace(self._state.history, node=self.steps.put(node, "batch"))
        self._state = dataclasses.replace(self._state, history=history)

    def _upload_rows(self) -> None:
        """Tell the device the parameters of the seated tickets, and which of their prompts are
        shared; empty rows are neutral. What a row shares stays in its slots until the next time:
        also after its ticket is over, since a row is only filled anew before a call of this."""
        seats = self._scheduler.rows
        rows = Rows.stack(
            [t.job.params if t else SamplingParams(temperature=0.0) for t in seats],
            [t.job.report if t else Report() for t in seats],
        )
        self._rows = self.steps.put(rows, "batch")
        self._shared, self._lent = None, [(0, 0)] * len(seats)
        if attends_by_kernel(self.steps.config):
            self._lent = shared_slots([ticket.lineage if ticket else {} for ticket in seats])
            self._shared = self.steps.put(SharedPrefixes(*np.asarray(self._lent, np.int32).T))
        guided = [bool(t and t.job.guide) for t in seats]
        self._variant = variant_of(rows, guided, self.steps.config.vocab_size)


def shape_of(rows: int, slots: int) -> str:
    """A size, as the names of its programs have it."""
    return f"rows={rows}, slots={slots}"


def variant_of(rows: Rows, guided: Sequence[bool], vocab: int) -> Variant:
    """The program for these rows (NumPy arrays): on CPU one for all."""
    top = min(bucket(int(np.max(rows.top)), TOP), vocab)
    if jax.default_backend() == "cpu":
        return Variant(top=top)
    return Variant.needed(rows, guided, top=top)
