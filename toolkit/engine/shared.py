"""An engine that several processes run together, each with some of the mesh's devices."""

from __future__ import annotations

import contextlib
import logging
import queue
from collections.abc import Sequence
from typing import Any

import jax

from toolkit.engine.engine import Engine, fail
from toolkit.engine.job import Event, Job, Ticket
from toolkit.engine.lockstep import Lockstep, Orders
from toolkit.errors import EngineClosed, EngineFault, InvalidRequest

log = logging.getLogger("toolkit.engine")


class SharedEngine(Engine):
    """One process's side. Process 0's is asked, and takes its turns when it has told the others
    what is new; theirs do the same turns, and end when it ends.

    One at a time: two would send their programs in another order in another process, and devices
    that wait for each other would wait for ever.
    """

    _open: SharedEngine | None = None

    def __init__(self, *args: Any, **options: Any):
        """Raises InvalidRequest while there is another one."""
        if SharedEngine._open is not None:
            raise InvalidRequest(
                f"`mesh` among {jax.process_count()} processes holds one model at a time. Close "
                "the other one first, in all of them.",
                param="mesh",
            )
        super().__init__(*args, **options)
        SharedEngine._open = self
        self._lockstep = Lockstep()
        self._cancelled: list[Ticket] = []  # the other processes do not know it yet
        self._forget = False
        self._start()

    def submit(self, jobs: Sequence[Job]) -> tuple[list[Ticket], queue.SimpleQueue[Event]]:
        """As every engine in process 0. Raises EngineClosed in the others."""
        if not self._lockstep.leads:
            raise EngineClosed(
                f"This is process {jax.process_index()} of {jax.process_count()}, and process 0 "
                "takes the requests. Ask there, and only call `close` here: it waits for the end."
            )
        return super().submit(jobs)

    def cancel(self, tickets: Sequence[Ticket]) -> None:
        """Free the tickets' rows from the next turn on."""
        with self._wake:
            self._cancelled.extend(tickets)
            self._wake.notify()

    def forget_prompts(self) -> None:
        """Empty the store of prompts in all processes, before what is submitted next."""
        with self._wake:
            self._forget = True
            self._wake.notify()

    def stop(self) -> None:
        """Ask all processes' engines to end, in process 0; the others end with it."""
        if self._lockstep.leads:
            super().stop()

    def _serve(self) -> None:
        """Turn by turn. A fault ends the engines of all processes: whether these still agree is
        not known."""
        lockstep = self._lockstep
        try:
            closed = False
            while not closed:  # not by `_closed`, which is set before the others have heard it
                tickets, orders = self._say() if lockstep.leads else lockstep.hear()
                closed = orders.closed
                self._scheduler.waiting.extend(tickets)
                if orders.forget:
                    self._prefixes.clear()
                self._drop_finished()
                if self._busy and not closed:
                    self._turn()
            self._closed = True
        except Exception as error:
            log.exception("a step of several processes failed")
            self._closed = True
            everybody = [*self._scheduler.running, *self._scheduler.waiting, *self._inbox]
            fail(everybody, EngineFault(f"A step failed: {type(error).__name__}: {error}"))
            if lockstep.leads:
                with contextlib.suppress(Exception):  # the others may be gone
                    lockstep.say(closed=True)
        finally:
            SharedEngine._open = None

    def _say(self) -> tuple[list[Ticket], Orders]:
        """Tell the other processes what is new, once there is something or work to go on with."""
        with self._wake:
            while not (
                self._closed or self._busy or self._inbox or self._cancelled or self._forget
            ):
                self._wake.wait()
            tickets = [ticket for ticket in self._inbox if ticket not in self._cancelled]
            self._inbox.clear()
            cancelled, self._cancelled = self._cancelled, []
            forget, self._forget = self._forget, False
            closed = self._closed
        return tickets, self._lockstep.say(tickets, cancelled, forget=forget, closed=closed)
