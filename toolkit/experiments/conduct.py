"""Conducting a declaration: folder, plan, models and servers, cells, frames, pictures."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from toolkit.errors import RunError, TargetError
from toolkit.experiments import manifest as manifests
from toolkit.experiments import store, tables
from toolkit.experiments.ask import asker
from toolkit.experiments.cells import Cell, Setting, in_shard, plan, settings
from toolkit.experiments.declaration import (
    Declaration,
    ModelPart,
    PromptFile,
    ServerPart,
    target_name,
)
from toolkit.experiments.pool import Pool
from toolkit.experiments.probe import probe
from toolkit.experiments.progress import Progress
from toolkit.experiments.prompts import PromptRow, read_prompts, to_jsonl
from toolkit.experiments.run import Run, open_run
from toolkit.experiments.runner import Crew, Tally, run_cells, width
from toolkit.experiments.settings import LIMITS
from toolkit.experiments.stop import Stop
from toolkit.experiments.target import Local, Remote, Target
from toolkit.experiments.yamlfile import to_yaml

INLINE = 50
"""Prompts that config.yaml holds itself; more of them go into prompts.jsonl."""
BATCH = 1000
"""Lines of requests.jsonl that are written at a time."""

Opener = Callable[[ModelPart | ServerPart], contextlib.AbstractContextManager[Target]]
Crews = Callable[[Target, ModelPart | ServerPart, int], Crew]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """How a run is conducted; none of it changes an answer."""

    shard: tuple[int, int] | None = None
    """Only the cells of shard (i, n), counted from 1."""
    progress: bool = True
    opener: Opener | None = None
    """Makes a target; None loads models and connects to servers."""
    crews: Crews | None = None
    """Makes whoever asks; None is threads of this process."""
    stop: Stop = dataclasses.field(default_factory=Stop)


def conduct(resolved: Resolved, folder: Path, options: Options) -> Run:
    """Run what is declared in a folder, from where it stands; the run as it is then.

    Raises RunError for a folder that another process writes, for one that holds something else, for
    other weights than the folder was begun with, and for a full disk; TargetError where nobody
    answers.
    """
    declared = resolved.declared
    chosen = settings(declared, resolved.source)
    store.make_folder(folder)
    _check_folder(folder, resolved)
    with store.locked(folder):
        if _finished(folder, resolved, options.shard):
            return open_run(folder)
        session = Session(folder, resolved, chosen, options)
        try:
            complete = all([session.run(i, part) for i, part in enumerate(declared.asked)])
        finally:
            session.end()
        if complete:
            finish(folder, declared)
    return open_run(folder)


class Session:
    """One stretch of work on a run folder, from its start to its end, its stop or its death."""

    def __init__(
        self, folder: Path, resolved: Resolved, chosen: Sequence[Setting], options: Options
    ):
        self.folder = folder
        self.resolved = resolved
        self.chosen = chosen
        self.options = options
        self.tally = Tally()
        name = resolved.declared.name
        self.manifest = manifests.begin(folder, name=name, shard=options.shard)
        manifests.save(folder, self.manifest)  # first: it tells a run folder from any other
        (folder / store.DONE).unlink(missing_ok=True)
        if not _same(folder, resolved):  # another plan: its answers are kept, its cells are not
            (folder / store.REQUESTS).unlink(missing_ok=True)
        if resolved.prompts is None:
            (folder / store.PROMPTS).unlink(missing_ok=True)
        else:
            store.write(folder / store.PROMPTS, resolved.prompts)
        store.write(folder / store.CONFIG, resolved.config)

    def run(self, number: int, part: ModelPart | ServerPart) -> bool:
        """Ask a target for its cells; whether every one has an answer then."""
        if self.options.stop.asked:
            return False
        with (self.options.opener or open_target)(part) as target:
            cells = self._planned(number, part, target)
            if isinstance(part, ServerPart) and part.probe:
                self._examine(target)
            cells = [cell for cell in cells if in_shard(cell.id, self.options.shard)]
            work = Work(self.folder, cells, self.resolved.rows, target, part)
            return work.run(self.options, self.tally)

    def _planned(self, number: int, part: ModelPart | ServerPart, target: Target) -> Sequence[Cell]:
        """All cells of a target, which the manifest names."""
        name, identity = target_name(part), target.identity()
        manifests.check_target(self.manifest, name, identity)
        rows = self.resolved.rows
        first = number * len(rows) * len(self.chosen)
        cells = plan(rows, self.chosen, target=name, identity=identity, first=first)
        self.manifest["distinct"][name] = len({cell.id for cell in cells})
        devices = manifests.devices() if isinstance(target, Local) else None
        if found := getattr(target, "devices", devices):
            self.manifest["devices"] = found
        manifests.save(self.folder, self.manifest)
        return cells

    def _examine(self, target: Target) -> None:
        """Note what a server means by its fields, unless an earlier session did. One that answers
        nothing now may do so when the cells ask."""
        if target.name in self.manifest["probes"]:
            return
        with contextlib.suppress(TargetError):
            self.manifest["probes"][target.name] = probe(target).to_json()
            manifests.save(self.folder, self.manifest)

    def end(self) -> None:
        """Note the end, as far as there is room on the disk."""
        self.manifest["sessions"][-1] |= {
            "ended": manifests.now(),
            "answered": self.tally.answered,
            "failed": self.tally.failed,
        }
        with contextlib.suppress(RunError):
            manifests.save(self.folder, self.manifest)


class Work:
    """The cells of one target."""

    def __init__(
        self,
        folder: Path,
        cells: Sequence[Cell],
        rows: Sequence[PromptRow],
        target: Target,
        part: ModelPart | ServerPart,
    ):
        self.folder = folder
        self.cells = cells
        self.rows = rows
        self.target = target
        self.part = part

    def run(self, options: Options, tally: Tally) -> bool:
        """Note the cells, ask for those without an answer; whether every one has an answer now."""
        self._note()
        good, _ = store.outcomes(self.folder)
        once = {cell.id: cell for cell in self.cells if cell.id not in good}
        total = len({cell.id for cell in self.cells})
        if once:
            before = tally.answered
            crew = (options.crews or threads)(self.target, self.part, self._choices())
            with (
                contextlib.closing(store.Journal(self.folder / store.RESPONSES)) as journal,
                Progress(
                    total=total,
                    done=total - len(once),
                    name=target_name(self.part),
                    shown=options.progress,
                    stop=options.stop,
                ) as progress,
            ):
                lines = map(self._line, once.values())
                run_cells(lines, crew, journal, progress, options.stop, tally)
            return tally.answered - before == len(once)
        return True

    def _note(self) -> None:
        """Write the cells that requests.jsonl does not have yet."""
        known = store.asked(self.folder)
        new = (cell for cell in self.cells if (cell.id, cell.prompt_index) not in known)
        with contextlib.closing(store.Journal(self.folder / store.REQUESTS)) as journal:
            for lines in _batches(map(store.line, map(self._line, new))):
                journal.append(b"".join(lines))

    def _line(self, cell: Cell) -> dict[str, Any]:
        row = self.rows[cell.prompt_index]
        return {
            "cell_id": cell.id,
            "prompt_index": cell.prompt_index,
            "index": cell.index,
            "target": cell.target,
            "setting": cell.setting.number,
            "request": {**cell.setting.fields, "prompt": row.prompt},
            "prompt_columns": dict(row.columns),
        }

    def _choices(self) -> int:
        """The most sequences that one cell needs."""
        fields = [cell.setting.fields for cell in self.cells] or [{}]
        return max(max(f.get("n", 1), f.get("best_of") or 1) for f in fields)


def finish(folder: Path, declared: Declaration) -> None:
    """Write frames and the mark that all is there, then pictures."""
    tables.write(folder, declared.metrics)
    lines = store.asked(folder)
    counts = {"cells": len({cell for cell, _ in lines}), "lines": len(lines)}
    store.write(folder / store.DONE, json.dumps(counts) + "\n")
    if declared.plots:
        from toolkit.experiments.figures import draw  # matplotlib, where it is wanted

        draw(open_run(folder))


def threads(target: Target, part: ModelPart | ServerPart, choices: int) -> Crew:
    """Threads of this process that ask."""
    attempts = part.attempts if isinstance(part, ServerPart) else 1
    return Pool(asker(target, attempts=attempts), width=width(target, part, choices))


@contextlib.contextmanager
def open_target(part: ModelPart | ServerPart) -> Iterator[Target]:
    """A model loaded strictly, so that its answers do not depend on what shares the batch; or a
    connection to a server."""
    if isinstance(part, ServerPart):
        remote = Remote(
            part.base_url,
            model=part.model,
            api_key=_key(part),
            timeout=part.timeout,
            dialect=part.dialect,
            name=target_name(part),
        )
        with contextlib.closing(remote):
            yield remote
        return
    # Not at the top: a run against a server needs no engine.
    from toolkit.completion.load import load

    with load(
        part.model,
        dtype=part.dtype,
        context=part.context,
        max_batch=part.max_batch,
        strict=True,
        limits=LIMITS,
    ) as lm:
        yield Local(lm, name=target_name(part))


def _key(part: ServerPart) -> str | None:
    if part.api_key_env is None:
        return None
    if not (key := os.environ.get(part.api_key_env)):
        raise RunError(f"`api_key_env`: the variable {part.api_key_env} is empty. Set it.")
    return key


# --- folders --------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True, kw_only=True)
class Resolved:
    """A declaration that needs no other file."""

    declared: Declaration
    rows: Sequence[PromptRow]
    config: str
    """What config.yaml holds."""
    prompts: bytes | None
    """What prompts.jsonl holds; None where the prompts stand in config.yaml."""
    source: str = "the declaration"
    """The file that declares it, as messages name it."""

    @property
    def sum(self) -> str:
        """A short sum of all that is declared."""
        text = self.config.encode() + (self.prompts or b"")
        return hashlib.blake2b(text, digest_size=3).hexdigest()


def resolve(
    declared: Declaration, folder: Path, source: str | Path = "the declaration"
) -> Resolved:
    """The declaration with its prompts read from files relative to `folder`."""
    rows = read_prompts(declared.prompts, folder)
    _check_plots(declared, rows, str(source))
    value = declared.model_dump(mode="json", exclude_none=True)
    if declared.seeds is None:
        value["seeds"] = None
    prompts = None
    if isinstance(declared.prompts, PromptFile) or len(rows) > INLINE:
        prompts = to_jsonl(rows)
        value["prompts"] = {"file": store.PROMPTS}
    return Resolved(
        declared=declared, rows=rows, config=to_yaml(value), prompts=prompts, source=str(source)
    )


def _check_plots(declared: Declaration, rows: Sequence[PromptRow], source: str) -> None:
    """Raises RunError for a plot of a column that no prompt has."""
    for place, plot in enumerate(declared.plots):
        for axis in ("x", "y", "by"):
            column = getattr(plot, axis) or ""
            name = column.removeprefix("prompt.")
            if name != column and not any(name in row.columns for row in rows):
                has = ", ".join(dict.fromkeys(key for row in rows for key in row.columns)) or "none"
                raise RunError(
                    f"{source}: `plots[{place}].{axis}`: no prompt has a column {name!r}. "
                    f"There are: {has}."
                )


def run_folder(resolved: Resolved, base: Path) -> Path:
    """The newest folder of this very declaration in `base`, to go on with it; else a new one."""
    ending = f"_{resolved.declared.name}_{resolved.sum}"
    found = sorted(path for path in base.glob(f"*{ending}") if (path / store.MANIFEST).exists())
    stamp = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H-%M-%S")
    return found[-1] if found else base / f"{stamp}{ending}"


def _finished(folder: Path, resolved: Resolved, shard: tuple[int, int] | None) -> bool:
    """Whether the folder holds all of this already. Frames that are damaged are made again; where
    lines are gone from the JSONL files it is not finished."""
    if not all((folder / name).exists() for name in (store.DONE, store.MANIFEST)):
        return False
    before = manifests.read(folder)["shard"]
    if not _same(folder, resolved) or before != (list(shard) if shard else None):
        return False
    if not open_run(folder).done:
        return False
    if not tables.readable(folder):
        tables.write(folder, resolved.declared.metrics)
    return True


def _check_folder(folder: Path, resolved: Resolved) -> None:
    """Raises RunError for a folder that holds something else than a run."""
    found = store.visible(folder)
    if found and store.MANIFEST not in found and not _same(folder, resolved):
        raise RunError(
            f"{folder} is not empty and no run folder: it has {', '.join(found[:3])} and no "
            f"{store.MANIFEST}. Choose another folder with --out."
        )


def _same(folder: Path, resolved: Resolved) -> bool:
    """Whether a folder was begun with this declaration."""
    same = _holds(folder / store.CONFIG, resolved.config.encode())
    return same and _holds(folder / store.PROMPTS, resolved.prompts)


def _holds(path: Path, data: bytes | None) -> bool:
    return (path.read_bytes() if path.is_file() else None) == data


def _batches(items: Iterable[bytes]) -> Iterator[list[bytes]]:
    group: list[bytes] = []
    for item in items:
        group.append(item)
        if len(group) == BATCH:
            yield group
            group = []
    if group:
        yield group
