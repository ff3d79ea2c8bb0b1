"""A recorded run: its frames, what is missing, and how to go on."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from toolkit.errors import RunError
from toolkit.experiments import manifest, store, tables
from toolkit.experiments.cells import in_shard, plan, settings
from toolkit.experiments.declaration import Declaration, read_declaration, target_name
from toolkit.experiments.prompts import read_prompts

if TYPE_CHECKING:
    import pandas as pd

TIMES = ("seconds", "ttft", "tokens_per_second")
"""Columns of `requests` that differ each time a cell is asked; all others depend on the cell."""


def open_run(path: str | Path) -> Run:
    """The run in a folder that `toolkit run` or `toolkit.sweep` has written, finished or not.

    Raises RunError for a folder that holds none.
    """
    return Run(Path(path))


class Run:
    """A run folder. Frames are made when they are looked at; `open_run` again sees new cells."""

    def __init__(self, path: Path):
        self.path = path
        self.manifest = manifest.read(path)
        self.config = _config(path)
        self._frames: dict[str, pd.DataFrame] = {}

    # --- frames ---------------------------------------------------------------------------------

    @property
    def requests(self) -> pd.DataFrame:
        """One row a choice: text, counts, likelihood, times, `param.*`, `prompt.*`, `metric.*`."""
        return self._requests(rejected=False)

    @property
    def rejected(self) -> pd.DataFrame:
        """The candidates that lost under `best_of`, in the columns of `requests`."""
        return self._requests(rejected=True)

    @property
    def tokens(self) -> pd.DataFrame:
        """One row a token of each choice."""
        return self._frame("tokens")

    @property
    def candidates(self) -> pd.DataFrame:
        """One row an alternative of each token."""
        return self._frame("candidates")

    def summary(self, by: str | list[str] | None = None, values: Any = None) -> pd.DataFrame:
        """Means over choices for each value of `by`: of `logprob_mean`, `completion_tokens` and the
        metrics, or of the columns `values`; with the standard error beside, over prompts, whose
        choices are not independent.

        `by`: columns of `requests`; None is the target and what the grid varies.
        """
        from toolkit.experiments.summary import summary

        return summary(self, by=by, values=values)

    @functools.cached_property
    def _made(self) -> dict[str, pd.DataFrame]:
        """Frames of an unfinished run, each made when it is first looked at."""
        return {}

    def _requests(self, *, rejected: bool) -> pd.DataFrame:
        frame = self._frame("requests")
        lost = frame["rejected"].fillna(False).to_numpy(dtype=bool)
        return frame.loc[lost == rejected].reset_index(drop=True)

    def _frame(self, name: str) -> pd.DataFrame:
        if name not in self._frames:
            self._frames[name] = self._read(name)
        return self._frames[name]

    def _read(self, name: str) -> pd.DataFrame:
        """From parquet where the run has ended, from the answers where it has not. Frames that
        are lost or damaged are written again, unless answers are lost too."""
        frame = tables.read(self.path, name) if self._ended else None
        if frame is None and self.done:
            self._write_frames()
            frame = tables.read(self.path, name)
        if frame is not None:
            return frame
        if name not in self._made:
            answered = tables.pairs(self.path, self._outcomes[0])  # the same cells in every frame
            self._made[name] = tables.frame(answered, name, self.config.metrics)
        return self._made[name]

    def _write_frames(self) -> None:
        try:
            with store.locked(self.path):
                tables.write(self.path, self.config.metrics)
        except (RunError, PermissionError):
            return

    # --- answers --------------------------------------------------------------------------------

    def cells(self) -> Iterator[tuple[Mapping[str, Any], Mapping[str, Any]]]:
        """Each cell that has an answer: what was asked, and what came."""
        return tables.pairs(self.path)

    def answers(self) -> Iterator[Any]:
        """The answers in order: records of our engine, JSON of servers. `toolkit.frames` and
        `toolkit.plots` take them."""
        for line, reply in self.cells():
            yield tables.record_of(line, reply) if "record" in reply else reply["body"]

    # --- what is there --------------------------------------------------------------------------

    @property
    def done(self) -> bool:
        """Whether every cell has an answer and the frames are written. False where lines are gone
        from the JSONL files since."""
        if not self._ended:
            return False
        whole = len(self._lines) >= self._counts.get("lines", 0)
        return whole and self.answered >= self.planned

    @property
    def _ended(self) -> bool:
        """Whether the frames were written when every cell had an answer."""
        return (self.path / store.DONE).exists()

    @functools.cached_property
    def _counts(self) -> Mapping[str, int]:
        """The cells, and the lines of requests.jsonl, that there were then."""
        try:
            found = json.loads((self.path / store.DONE).read_bytes())
        except (OSError, ValueError):
            return {}
        items = found.items() if isinstance(found, dict) else ()
        return {name: count for name, count in items if type(count) is int}

    @functools.cached_property
    def planned(self) -> int:
        """Cells of the plan; of a shard, its own."""
        distinct = self.manifest["distinct"]
        names = [] if self.manifest["shard"] else map(target_name, self.config.asked)
        known = sum(distinct.get(name, 0) for name in names)
        return max(len(self._asked), known, self._counts.get("cells", 0))

    @functools.cached_property
    def answered(self) -> int:
        """Cells with an answer."""
        return len(self._asked & self._outcomes[0].keys())

    @property
    def missing(self) -> list[str]:
        """Cells without an answer, failed ones among them, and those whose request is lost."""
        if self.answered >= self.planned:
            return []
        known = self._asked if len(self._asked) >= self.planned else self._asked | self._expected()
        return sorted(known - (self._asked & self._outcomes[0].keys()))

    def _expected(self) -> set[str]:
        """The cells of the plan of each target that was begun, by what is declared."""
        rows, chosen = read_prompts(self.config.prompts, self.path), settings(self.config)
        shard = self.manifest["shard"]
        names = [target_name(part) for part in self.config.asked]
        plans = [
            plan(rows, chosen, target=name, identity=identity)
            for name, identity in self.manifest["targets"].items()
            if name in names
        ]
        found = {cell.id for cells in plans for cell in cells}
        return {cell for cell in found if in_shard(cell, tuple(shard) if shard else None)}

    @property
    def failures(self) -> dict[str, str]:
        """Cells whose last try failed -> what was said."""
        bad = self._outcomes[1]
        lines = store.responses(self.path, bad.values())
        return {line["cell_id"]: line["error"]["message"] for line in lines}

    @functools.cached_property
    def _outcomes(self) -> tuple[dict[str, int], dict[str, int]]:
        return store.outcomes(self.path)

    @functools.cached_property
    def _asked(self) -> set[str]:
        return {cell for cell, _ in self._lines}

    @functools.cached_property
    def _lines(self) -> set[tuple[str, int]]:
        return store.asked(self.path)

    # --- how it shows ---------------------------------------------------------------------------

    def facts(self) -> dict[str, str]:
        """What there is to say, by name."""
        targets = ", ".join(self.manifest["targets"]) or "none yet"
        begun = self.manifest["distinct"]
        later = [n for n in map(target_name, self.config.asked) if n not in begun]
        found = {"targets": targets, "cells": f"{self.answered:,} of {self.planned:,} answered"}
        if later:
            found["not begun"] = ", ".join(later)
        if self.config.question:
            found = {"question": self.config.question, **found}
        if self.manifest["shard"]:
            i, n = self.manifest["shard"]
            found["shard"] = f"{i} of {n}; join them with `toolkit merge`"
        failures = self.failures
        if failures:
            first = next(iter(failures.values()))
            found["failed"] = f"{len(failures):,}, the last with: {first:.200}"
        if not self.done:
            left = self.planned - self.answered
            what = f"{left:,} cells" if left or later else "the frames"
            what += ", which were there when the run ended" if self._ended else ""
            found["missing"] = f"{what}. Go on with: toolkit run {self.path}"
        found["frames"] = "requests, tokens, candidates"
        return found

    def __repr__(self) -> str:
        state = "done" if self.done else "damaged" if self._ended else "not finished"
        lines = [f"<Run {self.config.name}, {state}, in {self.path}>"]
        return "\n".join([*lines, *(f"  {name}: {text}" for name, text in self.facts().items())])

    def _repr_html_(self) -> str:
        """The card that Jupyter shows."""
        from toolkit.analysis import card

        return card.table(f"Run {self.config.name}", self.facts())


def _config(path: Path) -> Declaration:
    file = path / store.CONFIG
    if not file.exists():
        raise RunError(f"{path} is no run folder: it has no {store.CONFIG}.")
    return read_declaration(file, recorded=True)
