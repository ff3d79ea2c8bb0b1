"""The guides of the rows that run, in tables on the device."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from toolkit.sampling.guide import Guide, GuideTables, pack


class Guidebook:
    """Which guide starts at which node of the tables. Guides that no row needs are dropped when
    others come."""

    def __init__(self, put: Callable[[Any], Any]) -> None:
        self._put = put
        self.tables: GuideTables | None = None
        self.starts: dict[Guide, int] = {}

    def enter(self, used: Iterable[Guide], new: Iterable[Guide]) -> dict[Guide, int]:
        """Give every guide a place; by how much the nodes of each used one have moved, where any
        has."""
        used, new = list(used), list(new)
        if self.tables is not None and all(guide in self.starts for guide in new):
            return {}
        before, guides = self.starts, tuple(dict.fromkeys((*used, *new)))
        tables, starts = pack(guides)
        self.tables = self._put(tables)
        self.starts = dict(zip(guides, starts, strict=True))
        return {guide: self.starts[guide] - before[guide] for guide in used}

    def start(self, guide: Guide | None) -> int:
        """The first node of a guide; 0, the free node, for None."""
        return 0 if guide is None else self.starts[guide]

    def clear(self) -> None:
        """Forget all; the tables may be lost."""
        self.tables, self.starts = None, {}
