"""Joining the shards of a run: one folder, the same as if one machine had asked for all."""

from __future__ import annotations

import contextlib
import heapq
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from toolkit.errors import RunError
from toolkit.experiments import manifest as manifests
from toolkit.experiments import store
from toolkit.experiments.conduct import finish
from toolkit.experiments.declaration import target_name
from toolkit.experiments.run import Run, open_run


def merge(parts: Sequence[str | Path], out: str | Path) -> Run:
    """Join run folders of one declaration into `out`; the run as it is then.

    Frames are written once every cell of the plan has an answer. A cell that several parts have is
    taken from the first. Merging again takes what is new.

    Raises RunError for parts of another declaration, weights or sampler, for a part that is given
    twice, and for an `out` that holds anything but an earlier merge of this declaration.
    """
    runs = [open_run(part) for part in parts]
    if not runs:
        raise RunError("`parts` is empty. Give the run folders of the shards.")
    out = Path(out)
    for number, run in enumerate(runs):
        if any(run.path.resolve() == other.path.resolve() for other in runs[:number]):
            raise RunError(f"`parts`: {run.path} is given twice. Remove one of them.")
        _check(runs[0], run, out)
    _check_out(runs[0], out)
    store.make_folder(out)
    with contextlib.ExitStack() as stack:
        stack.enter_context(store.locked(out))
        for run in runs:
            stack.enter_context(store.locked(run.path))
        _write(runs, out)
        whole = open_run(out)
        if _complete(whole):
            finish(out, whole.config)
    return open_run(out)


def _check(first: Run, other: Run, out: Path) -> None:
    if out.resolve() == other.path.resolve():
        raise RunError(f"`out` {out} is one of the parts. Choose another folder.")
    for name in (store.CONFIG, store.PROMPTS):
        if _bytes(first.path / name) != _bytes(other.path / name):
            raise RunError(
                f"{other.path} was made by another declaration than {first.path}: their {name} "
                "differ. Merge shards of one declaration."
            )
    changed = _changed(first, other.manifest)
    if changed:
        raise RunError(
            f"{other.path} asked another {changed[0]!r} than {first.path}: {changed[1]}. "
            "Ask one of the shards again."
        )


def _changed(first: Run, manifest: Mapping[str, Any]) -> tuple[str, str] | None:
    """A target that was another one in the first part than a manifest says, and how."""
    for name, identity in manifest["targets"].items():
        before = first.manifest["targets"].get(name, identity)
        changed = manifests.differences(before, identity)
        if changed:
            return name, "; ".join(changed)
    return None


def _check_out(first: Run, out: Path) -> None:
    """Raises RunError unless `out` is empty or holds an earlier merge of the same declaration."""
    found = store.visible(out)
    if not found:
        return
    way = "Choose another folder with --out."
    if store.MANIFEST not in found:
        raise RunError(f"`out` {out} is not empty and no run folder: it has {found[0]}. {way}")
    before = manifests.read(out)
    if before["shard"]:
        raise RunError(f"`out` {out} is a shard itself. {way}")
    if "parts" not in before:
        raise RunError(f"`out` {out} is a run of its own and no earlier merge. {way}")
    names = (store.CONFIG, store.PROMPTS)
    differ = any(_bytes(first.path / name) != _bytes(out / name) for name in names)
    # A merge that was killed at its start has a manifest and no configuration.
    if (differ and store.CONFIG in found) or _changed(first, before):
        raise RunError(f"`out` {out} is a merge of another declaration or target. {way}")


def _bytes(path: Path) -> bytes | None:
    return path.read_bytes() if path.exists() else None


def _write(runs: Sequence[Run], out: Path) -> None:
    """Requests in the order of the plan, answers, configuration and manifest."""
    (out / store.DONE).unlink(missing_ok=True)
    first = runs[0]
    manifest = {**first.manifest, "shard": None, "parts": [str(run.path) for run in runs]}
    for name in ("targets", "distinct"):
        manifest[name] = {k: v for run in runs for k, v in run.manifest[name].items()}
    manifest["sessions"] = [session for run in runs for session in run.manifest["sessions"]]
    manifests.save(out, manifest)
    for name in (store.CONFIG, store.PROMPTS):
        data = _bytes(first.path / name)
        if data is not None:
            store.write(out / name, data)
    store.write(out / store.REQUESTS, lambda path: _write_requests(runs, path))
    known, _ = store.outcomes(out)
    with contextlib.closing(store.Journal(out / store.RESPONSES)) as journal:
        for run in runs:
            good, bad = store.outcomes(run.path)
            new = {cell: start for cell, start in good.items() if cell not in known}
            for raw in store.raw_responses(run.path, new.values()):
                journal.append(raw)
            known |= new
            failed = {cell: start for cell, start in bad.items() if cell not in known}
            for raw in store.raw_responses(run.path, failed.values()):
                journal.append(raw)


def _write_requests(runs: Sequence[Run], path: Path) -> None:
    """The lines of all parts by their place in the plan, each once."""
    seen: set[tuple[str, int]] = set()
    with path.open("wb") as file:
        each = (store.requests(run.path) for run in runs)
        for line in heapq.merge(*each, key=lambda line: line["index"]):
            key = (line["cell_id"], line["prompt_index"])
            if key not in seen:
                seen.add(key)
                file.write(store.line(line))


def _complete(run: Run) -> bool:
    """Whether every cell of the plan is there and has an answer."""
    names = [target_name(part) for part in run.config.asked]
    distinct = run.manifest["distinct"]
    if any(name not in distinct for name in names):
        return False
    return run.answered == run.planned >= sum(distinct[name] for name in names)
