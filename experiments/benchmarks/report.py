"""A scenario's result as JSON, with every turn of every round, and as a table in Markdown."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from experiments.benchmarks.machine import BUSY
from experiments.benchmarks.rounds import Round

COMPANY = "The machine was busy with something else (load {} before the run): take it again."


@dataclasses.dataclass(frozen=True, kw_only=True)
class Result:
    """What one scenario found."""

    scenario: str
    """Name of the scenario, and of the files."""
    title: str
    settings: Mapping[str, Any]
    left_out: Mapping[str, str]
    """What could not run here, and why."""
    rounds: Sequence[Round]
    summary: Mapping[str, Any]
    columns: Sequence[str]
    """Headings of the table; its rows say the same as `summary`."""
    rows: Sequence[Sequence[str]]
    notes: Sequence[str]
    """Sentences below the table."""

    def save(self, folder: Path, place: Mapping[str, Any]) -> Path:
        """Write `<scenario>.json` and `<scenario>.md`; the path of the latter.

        `place` describes the machine; its `engines` are versions by engine and package.
        """
        folder.mkdir(parents=True, exist_ok=True)
        kept = {
            field.name: getattr(self, field.name)
            for field in dataclasses.fields(self)
            if field.name not in ("columns", "rows", "notes")
        }
        text = json.dumps(
            {**kept, "machine": place}, indent=1, default=dataclasses.asdict, ensure_ascii=False
        )
        (folder / f"{self.scenario}.json").write_text(text + "\n", encoding="utf-8")
        page = folder / f"{self.scenario}.md"
        page.write_text(self._markdown(place), encoding="utf-8")
        return page

    def _markdown(self, place: Mapping[str, Any]) -> str:
        """The table, what it was taken on, and the notes."""
        size = f"{place['processor']}, cores used: {place['cores']}, {place['memory_gib']} GiB"
        versions = [
            " ".join(f"{name} {number}" for name, number in packages.items())
            for packages in place["engines"].values()
            if packages
        ]
        lines = [
            f"# {self.title}",
            "",
            f"{size}; {place['system']}, Python {place['python']}. {'; '.join(versions)}.",
            f"Median of {len(self.rounds)} interleaved rounds, smallest and largest in brackets.",
            "",
            _row(self.columns),
            _row(["---"] * len(self.columns)),
            *map(_row, self.rows),
            "",
            *(f"- {note}" for note in self.notes),
            *([f"- {COMPANY.format(place['load'])}"] if place["load"] > BUSY else []),
            *(f"- Left out: {name}: {reason}" for name, reason in self.left_out.items()),
        ]
        return "\n".join(lines) + "\n"


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"
