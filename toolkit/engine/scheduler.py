"""Which sequence sits in which row, and how large the batch must be. Host code: no arrays, no
device."""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Iterable

from toolkit.engine.job import Job, Ticket

ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256)
"""Buckets of rows: a batch is padded to one of them, so that few programs serve every batch."""
STRICT_ROWS = 32
"""Most rows in strict mode: on CPU a step of 64 rows rounds differently from one of 2 to 32."""
CHUNKS = (16, 32, 64, 128, 256, 512)
"""Buckets of prompt tokens in one prefill call; a longer prompt takes several calls."""
SLOTS = 256
"""Cache slots of the smallest bucket of few rows; each further one doubles."""
FEWER = 64
"""Of many rows and of a prompt on its own: attention reads every slot, used or not."""
MANY = 1024
"""Slots over all rows from which on the smaller bucket is used. With 512 or more, attention has the
same bits for every number of rows and slots on CPU; the rest is a margin."""
EXPECTED = 128
"""Tokens of a completion that a batch makes room for from the start."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Limits:
    """What one engine may hold."""

    max_rows: int = 64
    """Sequences that run at one time; more wait."""
    min_rows: int = 1
    """Smallest bucket of rows; 2 in strict mode where XLA computes one row alone in another way."""
    strict: bool = False
    """Whether a row's bits must not depend on its company; `max_rows` and `min_rows` see to it."""
    groups: int = 1
    """Devices, or groups of them, that hold the same number of rows each; `min_rows` is a multiple
    of it. A row stays where it is."""
    context: int = 2048
    """Tokens of prompt and completion together."""
    patience: int = 16
    """Steps with at most half of the rows in use before the batch is made smaller."""
    haste: int = 4
    """The same where this batch was made that small before, so that nothing is compiled for it."""


class Scheduler:
    """Waiting and running tickets, and the rows of the batch."""

    def __init__(self, limits: Limits):
        self.limits = limits
        self.waiting: collections.deque[Ticket] = collections.deque()
        self.rows: list[Ticket | None] = []
        self._idle_steps = 0

    @property
    def running(self) -> list[Ticket]:
        """Tickets that have a row, in row order."""
        return [ticket for ticket in self.rows if ticket is not None]

    def drop_finished(self) -> None:
        """Free the rows of tickets that are over or cancelled; forget such tickets in the queue."""
        for row, ticket in enumerate(self.rows):
            if ticket is not None and (ticket.over or ticket.cancelled):
                ticket.row = None
                self.rows[row] = None
        self.waiting = collections.deque(t for t in self.waiting if not t.cancelled)

    def seat(self, ticket: Ticket) -> int:
        """Give a ticket the first free row, where devices hold rows of their own on the one with
        the fewest in use."""
        share, loads = self._share, [len(group) for group in self._groups()]
        free = (row for row, ticket in enumerate(self.rows) if ticket is None)
        row = min(free, key=lambda row: loads[row // share])
        self.rows[row] = ticket
        ticket.row = row
        return row

    def wanted_rows(self, arriving: int, ready: Iterable[int] = ()) -> int:
        """The bucket for all that run, arrive and wait; a smaller one than now only after some
        patience, and after less of it one of those that are `ready`: nothing is compiled for
        them."""
        need = min(len(self.running) + arriving + len(self.waiting), self.limits.max_rows)
        fullest, now = max(map(len, self._groups())), len(self.rows)
        size = row_bucket(max(need, self.limits.min_rows, self.limits.groups * fullest))
        if size >= now:
            self._idle_steps = 0
            return size
        if not self.running or self._idle_steps >= self.limits.patience:
            return size
        hasty = self._idle_steps >= self.limits.haste
        return min((rows for rows in ready if hasty and size <= rows < now), default=now)

    def note_steps(self, count: int) -> None:
        """Remember that `count` decode steps ran with the present rows."""
        half_empty = 2 * len(self.running) <= len(self.rows)
        self._idle_steps = self._idle_steps + count if half_empty else 0

    def block(self, most: int) -> int:
        """Decode steps of the next dispatch: a power of two up to `most`, no more than some row
        needs, and one while others wait; 0 when no row needs any."""
        left = max((t.job.max_tokens - t.dispatched for t in self.running), default=0)
        if left <= 0:
            return 0
        return 1 << (min(left, 1 if self.waiting else most).bit_length() - 1)

    def wanted_slots(self, ahead: int) -> int:
        """The slots that every running row fits in after `ahead` more steps."""
        return max((used(t, ahead) for t in self.running), default=0)

    def rearrange(self, size: int) -> list[int]:
        """Move the running tickets to the front of `size` rows; the old row of each new row. Where
        devices hold rows of their own, to the front of these and counted within these."""
        groups, before, share = self._groups(), self._share, size // self.limits.groups
        self.rows, source = [], []
        for first, group in enumerate(groups):
            empty = share - len(group)
            source += [*((ticket.row or 0) - first * before for ticket in group), *[0] * empty]
            self.rows += [*group, *[None] * empty]
        for row, ticket in enumerate(self.rows):
            if ticket is not None:
                ticket.row = row
        self._idle_steps = 0
        return source

    @property
    def _share(self) -> int:
        """Rows of one group."""
        return len(self.rows) // self.limits.groups

    def _groups(self) -> list[list[Ticket]]:
        """The tickets that run, by the devices that hold their rows."""
        share = self._share
        parts = (self.rows[i * share : (i + 1) * share] for i in range(self.limits.groups))
        return [[ticket for ticket in part if ticket is not None] for part in parts]


def expected(job: Job) -> int:
    """Slots that a sequence probably needs."""
    return len(job.prompt) + max(1, min(job.max_tokens, EXPECTED))


def used(ticket: Ticket, ahead: int) -> int:
    """Slots that a ticket's row may have filled after `ahead` more steps."""
    return len(ticket.job.prompt) + min(ticket.dispatched + ahead, ticket.job.max_tokens)


def row_bucket(need: int) -> int:
    """Smallest bucket of rows that holds `need`."""
    return _first(ROWS, need)


def chunk_bucket(need: int) -> int:
    """Smallest bucket of prompt tokens that holds `need`, or the largest there is."""
    return _first(CHUNKS, min(need, CHUNKS[-1]))


def slot_bucket(need: int, rows: int) -> int:
    """Smallest bucket of cache slots that holds `need` in a batch of `rows`."""
    return _doubled(SLOTS if rows * FEWER < MANY else FEWER, need)


def prompt_slots(need: int) -> int:
    """Smallest bucket of cache slots that holds a prompt of `need` tokens on its own."""
    return _doubled(FEWER, need)


def _doubled(size: int, need: int) -> int:
    while size < need:
        size *= 2
    return size


def _first(sizes: Iterable[int], need: int) -> int:
    return next(size for size in sizes if size >= need)
