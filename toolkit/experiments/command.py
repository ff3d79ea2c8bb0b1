"""What `toolkit run` does with a path: a declaration to begin, or a run folder to go on with."""

from __future__ import annotations

from pathlib import Path

from toolkit.errors import RunError
from toolkit.experiments import manifest as manifests
from toolkit.experiments import store
from toolkit.experiments.cells import read_shard, settings
from toolkit.experiments.conduct import Options, Resolved, conduct, resolve, run_folder
from toolkit.experiments.declaration import read_declaration, target_name
from toolkit.experiments.run import Run

RUNS = Path("runs")


def started(
    path: Path,
    *,
    out: Path | None = None,
    shard: str | None = None,
    on: str | None = None,
    progress: bool = True,
) -> Run:
    """Run the declaration at a path, or go on in a run folder; the run as it is then."""
    resolved, folder = _found(path, out)
    part = read_shard(shard) if shard else None
    if path.is_dir():
        before = manifests.read(path)["shard"]
        part = tuple(before) if before and part is None else part
    elif part is not None:
        folder = folder / f"shard-{part[0]}-of-{part[1]}"
    return conduct(resolved, folder, _options(Options(shard=part, progress=progress), on))


def planned(path: Path, *, shard: str | None = None) -> str:
    """What a declaration asks, in words. No model is loaded."""
    resolved, _ = _found(path, None)
    declared = resolved.declared
    chosen = settings(declared, resolved.source)
    names = [target_name(part) for part in declared.asked]
    count = len(names) * len(resolved.rows) * len(chosen)
    seeds = len(declared.seeds) if declared.seeds is not None else 1
    lines = [
        f"{declared.name}: {count:,} cells, {count * declared.n:,} choices",
        f"  targets: {', '.join(names)}",
        f"  prompts: {len(resolved.rows):,}",
        f"  settings: {len(chosen) // seeds:,}, seeds: {seeds:,}, choices: {declared.n}",
    ]
    if shard:
        i, n = read_shard(shard)
        lines.append(f"  shard {i} of {n}: about {count / n:,.0f} cells")
    return "\n".join(lines)


def _found(path: Path, out: Path | None) -> tuple[Resolved, Path]:
    """What is declared, and the folder to run it in."""
    if not path.is_dir():
        resolved = resolve(read_declaration(path), path.parent, path)
        return resolved, out or run_folder(resolved, RUNS)
    if not (path / store.CONFIG).exists():
        raise RunError(f"{path} is no run folder: it has no {store.CONFIG}. Give a YAML file.")
    if out is not None and out.resolve() != path.resolve():
        raise RunError(f"`--out` {out}: {path} goes on where it is. Leave `--out` out.")
    config = path / store.CONFIG
    return resolve(read_declaration(config), path, config), path


def _options(given: Options, on: str | None) -> Options:
    if on is None:
        return given
    if on != "ray":
        raise RunError(f'`--on` {on!r} is not known. Use "ray", or leave it out for this machine.')
    from toolkit.experiments import cluster

    return cluster.options(given)
