"""After a fault: who makes steps fail. Host code: no arrays, no device."""

from __future__ import annotations

import collections
from collections.abc import Sequence

from toolkit.engine.job import Ticket

PATIENCE = 2
"""Unexplained faults that a ticket may be present at; with the next one it fails."""


class Trials:
    """A step failed, and all of its rows are suspects. They are tried apart from everybody else, in
    ever smaller groups, until one fails alone; the others are innocent and go on.

    A trial is a new start from the prompt. Draws are keyed by position, so it makes the same tokens
    again, and those that were passed on before are not passed on twice (see `Ticket.take`).
    """

    def __init__(self) -> None:
        self.groups: collections.deque[list[Ticket]] = collections.deque()
        """Still to be tried; the first one is on trial now."""
        self.innocent: list[Ticket] = []
        self.held: list[Ticket] = []
        """Waited when the fault happened, and wait for its end."""
        self._explained = False

    def __bool__(self) -> bool:
        """Whether somebody is on trial."""
        return bool(self.groups)

    @property
    def everybody(self) -> list[Ticket]:
        """All tickets that are kept here."""
        return [*(t for group in self.groups for t in group), *self.innocent, *self.held]

    def accuse(self, present: Sequence[Ticket]) -> list[Ticket]:
        """A step failed with these in the batch: rewind them, and divide them into groups to try.

        Returns who is guilty: who was on trial alone, and who was present at too many faults that
        no trial could explain.
        """
        tried = self.groups.popleft() if self.groups else []
        absent = [t for t in tried if t not in present]
        alone = tried and len(present) == 1
        guilty = [t for t in present if alone or t.unexplained >= PATIENCE]
        suspects = [t for t in present if t not in guilty]
        for ticket in suspects:
            ticket.goal = max(ticket.goal, ticket.dispatched + 1)
            ticket.rewind()
        middle = (len(suspects) + 1) // 2
        parts = (suspects[:middle], suspects[middle:], absent)
        self.groups.extendleft(part for part in reversed(parts) if part)
        self._explained = self._explained or bool(guilty)
        return guilty

    def acquit(self) -> bool:
        """Whether those on trial have all passed the place of the fault, or have ended. They are
        innocent then: rewound, and the next group's turn has come."""
        if not all(t.over or t.cancelled or t.generated >= t.goal for t in self.groups[0]):
            return False
        for ticket in self.groups.popleft():
            self._explained = self._explained or ticket.cancelled
            if not (ticket.over or ticket.cancelled):
                ticket.rewind()
                self.innocent.append(ticket)
        return True

    def waiting(self) -> list[Ticket]:
        """Who may be seated next: the group on trial; with no trial left, everybody."""
        if self.groups:
            return list(self.groups[0])
        for ticket in self.innocent:
            ticket.unexplained += not self._explained
        released = [*self.innocent, *self.held]
        self.innocent, self.held, self._explained = [], [], False
        return released
