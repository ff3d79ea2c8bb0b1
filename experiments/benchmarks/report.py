"""A scenario's result: as JSON, with every turn of every round, and as a page of Markdown.

The page, the pictures and the documents are made from the JSON form alone, so that they can be made
again without a measurement.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from experiments.benchmarks.machine import BUSY
from experiments.benchmarks.picture import Picture
from experiments.benchmarks.rounds import Round
from experiments.benchmarks.targets import Target

COMPANY = "Other programs kept {} cores busy meanwhile: take it again on a quiet machine."
VERDICTS = {"aim": "reached the aim", "least": "reached", "missed": "**missed**"}

Facts = Mapping[str, Any]
"""A result as it stands in its JSON file."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Result:
    """What one scenario found."""

    scenario: str
    """Name of the scenario, and of the files."""
    title: str
    settings: Mapping[str, Any]
    left_out: Mapping[str, str] = dataclasses.field(default_factory=dict)
    """What could not run here, and why."""
    rounds: Sequence[Round] = ()
    summary: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    columns: Sequence[str] = ()
    """Headings of the table; its rows say the same as `summary`."""
    rows: Sequence[Sequence[str]] = ()
    notes: Sequence[str] = ()
    """Sentences below the table."""
    targets: Sequence[Target] = ()
    picture: Picture | None = None

    def facts(self, place: Mapping[str, Any]) -> Facts:
        """The JSON form. `place` describes the machine; its `engines` are versions."""
        whole = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        whole["targets"] = [target.facts() for target in self.targets]
        return json.loads(json.dumps({**whole, "machine": place}, default=dataclasses.asdict))

    def save(self, folder: Path, place: Mapping[str, Any]) -> Path:
        """Write `<scenario>.json` and `<scenario>.md`; the path of the latter."""
        folder.mkdir(parents=True, exist_ok=True)
        facts = self.facts(place)
        text = json.dumps(facts, indent=1, ensure_ascii=False)
        (folder / f"{self.scenario}.json").write_text(text + "\n", encoding="utf-8")
        page = folder / f"{self.scenario}.md"
        head = [f"# {facts['title']}", "", machine_line(facts["machine"])]
        page.write_text("\n".join([*head, *body(facts)]) + "\n", encoding="utf-8")
        return page


def machine_line(place: Mapping[str, Any]) -> str:
    """Processor, cores, memory, system, and the versions of the engines."""
    vectors = f" with {place['vectors']}" if place.get("vectors") else ""
    size = f"{place['processor']}{vectors}, cores used: {place['cores']}, {place['memory_gib']} GiB"
    versions = [
        " ".join(f"{name} {number}" for name, number in packages.items())
        for packages in place["engines"].values()
        if packages
    ]
    return f"{size}; {place['system']}, Python {place['python']}. {'; '.join(versions)}."


def body(facts: Facts) -> list[str]:
    """The lines below a result's heading: the table, the targets, the notes."""
    company = facts["machine"]["company"] or 0.0
    return [
        *_rounds_line(facts),
        *table(facts["columns"], facts["rows"]),
        *target_table(facts["targets"]),
        *(f"- {note}" for note in facts["notes"]),
        *([f"- {COMPANY.format(company)}"] if company > BUSY else []),
        *(f"- Left out: {name}: {reason}" for name, reason in facts["left_out"].items()),
    ]


def _rounds_line(facts: Facts) -> list[str]:
    count = len(facts["rounds"])
    if not count:
        return [""]
    many = f"Median of {count} interleaved rounds, smallest and largest in brackets."
    return [many if count > 1 else "One round.", ""]


def table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """A Markdown table and an empty line after it; nothing without rows."""
    if not rows:
        return []
    return [_row(columns), _row(["---"] * len(columns)), *map(_row, rows), ""]


def target_table(targets: Sequence[Mapping[str, Any]]) -> list[str]:
    """Targets beside what was measured, and what holds back those that were missed."""
    missed = [t for t in targets if t["verdict"] == "missed" and t["limit"]]
    return [
        *table(
            ("target", "at least", "aim", "measured", "verdict"),
            [target_row(target) for target in targets],
        ),
        *(f"- {t['what']}: {t['limit']}" for t in missed),
    ]


def target_row(target: Mapping[str, Any]) -> list[str]:
    """A target as a row of text."""

    def show(value: float) -> str:
        return f"{value:.{target['digits']}f}{target['unit']}"

    bound = "at most " if target["smaller"] else ""
    measured = target["measured"]
    between = f"{show(measured['median'])} ({show(measured['low'])} to {show(measured['high'])})"
    return [
        target["what"],
        bound + show(target["least"]),
        bound + show(target["aim"]),
        between,
        VERDICTS[target["verdict"]],
    ]


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"
