"""Prompts that were computed before: their cache and the logits that follow them, least used
dropped first."""

from __future__ import annotations

import collections
import dataclasses
import functools
import itertools
from collections.abc import Mapping, Sequence

import jax

from toolkit.engine.job import PromptScores
from toolkit.models.cache import KVCache

Lineage = Mapping[int, int]
"""Number of a computed prompt -> how many of the first slots hold what its slots do, to the bit."""
_numbers = itertools.count()


@dataclasses.dataclass(frozen=True)
class Prefix:
    """A prompt in the cache."""

    ids: tuple[int, ...]
    cache: KVCache
    logits: jax.Array
    """Of the token after the prompt, `[V]`."""
    scores: PromptScores | None = None
    lineage: Lineage = dataclasses.field(default_factory=dict)
    """Of this prompt, and of those whose cache it was continued from."""

    @functools.cached_property
    def bytes(self) -> int:
        """Memory that the entry holds."""
        arrays = jax.tree.leaves((self.cache, self.logits))
        scores = [] if self.scores is None else dataclasses.astuple(self.scores)
        return sum(x.nbytes for x in (*arrays, *scores))


class Prefixes:
    """A bounded store of prompts. `budget` is in bytes; 0 keeps only the newest entry."""

    def __init__(self, budget: int):
        self.budget = budget
        self.entries: collections.OrderedDict[tuple[int, ...], Prefix] = collections.OrderedDict()
        self.bytes = 0

    def find(self, ids: tuple[int, ...], *, score: int | None) -> Prefix | None:
        """The entry of exactly these ids, with the scores that are asked for."""
        entry = self.entries.get(ids)
        if entry is None or (score is not None and not _has_scores(entry, score)):
            return None
        self.entries.move_to_end(ids)
        return entry

    def nearest(self, ids: tuple[int, ...], *, score: int | None) -> tuple[Prefix | None, int]:
        """The entry that shares the most leading ids, and how many; with the scores that are asked
        for."""
        best, shared = None, 0
        for entry in self.entries.values():
            if score is None or _has_scores(entry, score):
                same = in_common(entry.ids, ids)
                if same > shared:
                    best, shared = entry, same
        return best, shared

    def keep(self, *entries: Prefix) -> None:
        """Add entries and drop the least recently used ones beyond the budget, but none of these:
        somebody waits for them."""
        for entry in entries:
            self._drop(entry.ids)
            self.entries[entry.ids] = entry
            self.bytes += entry.bytes
        while len(self.entries) > len(entries) and self.bytes > self.budget:
            self._drop(next(iter(self.entries)))

    def clear(self) -> None:
        """Drop all entries."""
        self.entries.clear()
        self.bytes = 0

    def _drop(self, ids: tuple[int, ...]) -> None:
        old = self.entries.pop(ids, None)
        self.bytes -= old.bytes if old else 0


def in_common(one: tuple[int, ...], other: tuple[int, ...]) -> int:
    """How many leading ids two prompts share."""
    same, most = 0, min(len(one), len(other))
    while same < most:  # a comparison of slices is quicker than one of ids
        middle = (same + most + 1) // 2
        if one[same:middle] == other[same:middle]:
            same = middle
        else:
            most = middle - 1
    return same


def lineage_of(ids: tuple[int, ...], near: Prefix | None, reused: int) -> Lineage:
    """Of a prompt whose first `reused` slots were copied from another one's. Of two that it has as
    much in common with the older one is kept: who descends from the other descends from it."""
    lineage, most = {}, 0
    for number, slots in ({} if near is None else near.lineage).items():
        if min(slots, reused) > most:
            lineage[number] = most = min(slots, reused)
    return lineage | {next(_numbers): len(ids)}


def shared_slots(lineages: Sequence[Lineage]) -> list[tuple[int, int]]:
    """For each row the one before it that has the most first slots in common, and how many; 0 of
    them where none has any."""
    holders: dict[int, tuple[int, int]] = {}
    shared = []
    for row, lineage in enumerate(lineages):
        source, length = 0, 0
        for number, slots in lineage.items():
            held, holder = holders.get(number, (0, row))
            if min(slots, held) > length:
                source, length = holder, min(slots, held)
            if slots > held:
                holders[number] = slots, row
        shared.append((source, length))
    return shared


def _has_scores(entry: Prefix, top: int) -> bool:
    return entry.scores is not None and (
        entry.scores.top_ids.shape[1] >= top or len(entry.ids) == 1
    )
