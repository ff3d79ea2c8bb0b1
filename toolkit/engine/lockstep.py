"""Several processes that run one engine, each with some of the mesh's devices.

A compiled program runs only when every process that holds some of its devices starts it. Which
programs an engine starts follows from what it is asked and from what was drawn, and what was drawn
is the same everywhere. So it is enough that all engines hear the same requests at the same turns:
process 0 takes them and says before each turn what is new; the others hear it and make tickets of
their own, whose events nobody reads.

What is said goes through the key-value store of `jax.distributed`, which all processes share and
which moves no arrays. Each listener has keys of its own and deletes what it has read.
"""

from __future__ import annotations

import dataclasses
import itertools
import pickle
import queue
from collections.abc import Sequence
from typing import Any

import jax

from toolkit.engine.job import Job, Ticket

PATIENCE = 60_000
"""Milliseconds of one wait for the next turn; an idle engine waits again."""

_engines = itertools.count()
"""Numbers the engines of this process. All processes make theirs in the same order."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Orders:
    """What is new since the turn before."""

    jobs: tuple[Job, ...] = ()
    cancelled: tuple[int, ...] = ()
    """Numbers of tickets; they are counted from 0 in the order of their jobs."""
    forget: bool = False
    """Whether to empty the store of prompts."""
    closed: bool = False


class Lockstep:
    """One process's side of what is said."""

    def __init__(self) -> None:
        # The store has no public name. Imported here, so that one process alone never needs it.
        from jax._src import distributed

        self.leads = jax.process_index() == 0
        self._store: Any = distributed.global_state.client
        self._name = f"toolkit/{next(_engines)}"
        self._turns, self._numbers = itertools.count(), itertools.count()
        self._tickets: dict[int, Ticket] = {}

    def say(
        self,
        tickets: Sequence[Ticket] = (),
        cancelled: Sequence[Ticket] = (),
        *,
        forget: bool = False,
        closed: bool = False,
    ) -> Orders:
        """Tell the other processes, and do here what they will do: from now on the tickets have
        jobs that were read back, so that a guide is one object or two here as it is there."""
        given = {id(ticket): number for number, ticket in self._tickets.items()}
        orders = Orders(
            jobs=tuple(ticket.job for ticket in tickets),
            cancelled=tuple(given[id(t)] for t in cancelled if id(t) in given),
            forget=forget,
            closed=closed,
        )
        words, turn = pickle.dumps(orders), next(self._turns)
        for process in range(1, jax.process_count()):
            self._store.key_value_set_bytes(f"{self._name}/{turn}/{process}", words)
        orders = pickle.loads(words)
        for ticket, job in zip(tickets, orders.jobs, strict=True):
            ticket.job = job
        self._follow(tickets, orders)
        return orders

    def hear(self) -> tuple[list[Ticket], Orders]:
        """Wait for process 0's next words, and do what they say."""
        key = f"{self._name}/{next(self._turns)}/{jax.process_index()}"
        orders = pickle.loads(self._wait(key))
        self._store.key_value_delete(key)
        tickets = [Ticket(job, queue.SimpleQueue()) for job in orders.jobs]
        self._follow(tickets, orders)
        return tickets, orders

    def _wait(self, key: str) -> bytes:
        while True:
            try:
                return self._store.blocking_key_value_get_bytes(key, PATIENCE)
            except jax.errors.JaxRuntimeError as error:
                if "DEADLINE_EXCEEDED" not in str(error):
                    raise

    def _follow(self, tickets: Sequence[Ticket], orders: Orders) -> None:
        for number in orders.cancelled:
            self._tickets[number].cancelled = True
        self._tickets = {n: t for n, t in self._tickets.items() if not (t.over or t.cancelled)}
        self._tickets |= {next(self._numbers): ticket for ticket in tickets}
