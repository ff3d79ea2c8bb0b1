"""Which scenarios an unfinished run has done, so that it can go on where it was cut off."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

NAME = "unfinished.json"


class Journal:
    """A file beside the results. It counts for a run of the same kind only, and a run that comes to
    its end removes it."""

    def __init__(self, folder: Path, kind: Mapping[str, Any], *, fresh: bool = False):
        self.path = folder / NAME
        self.kind = json.loads(json.dumps(kind))
        self.done: list[str] = [] if fresh else self._read()

    def _read(self) -> list[str]:
        try:
            found = json.loads(self.path.read_text(encoding="utf-8"))
            return list(found["done"]) if found["kind"] == self.kind else []
        except (OSError, ValueError, KeyError, TypeError):  # none, or cut off while it was written
            return []

    def note(self, scenario: str) -> None:
        """A scenario's results are on disk."""
        self.done.append(scenario)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        text = json.dumps({"kind": self.kind, "done": self.done}, indent=1)
        self.path.write_text(text + "\n", encoding="utf-8")

    def close(self) -> None:
        """All is done: the next run begins anew."""
        self.path.unlink(missing_ok=True)
