"""What a run was made with: versions, commit, devices, flags, sums, and when it ran."""

from __future__ import annotations

import datetime
import hashlib
import importlib.metadata
import json
import os
import platform
import socket
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import toolkit
from toolkit.errors import RunError
from toolkit.experiments import store

PACKAGES = ("jax", "jaxlib", "flax", "transformers", "tokenizers", "numpy", "pandas", "pyarrow")
FLAGS = ("XLA_FLAGS", "JAX_PLATFORMS", "JAX_ENABLE_X64", "JAX_DEFAULT_MATMUL_PRECISION")
FORMAT = 1
_KEYS: dict[str, type | tuple[type, ...]] = {
    "targets": dict,
    "distinct": dict,
    "sessions": list,
    "shard": (list, type(None)),
}
"""What a manifest must have, and as what."""


def begin(folder: Path, *, name: str, shard: tuple[int, int] | None) -> dict[str, Any]:
    """The manifest of a folder, made on the first session; each session adds itself.

    `distinct` has the number of different cells of each target, all shards together; `probes` what
    a server meant by its fields when the run began.
    """
    before = read(folder) if (folder / store.MANIFEST).exists() else {}
    new: dict[str, Any] = {
        "format": FORMAT,
        "name": name,
        "targets": {},
        "probes": {},
        "distinct": {},
        "sessions": [],
    }
    manifest: dict[str, Any] = {**new, **before, "shard": shard}
    manifest["sessions"].append(
        {"began": now(), "ended": None, "host": socket.gethostname(), "pid": os.getpid()}
        | {"versions": versions(), "commit": commit(), "python": platform.python_version()}
        | {"platform": platform.platform(), "flags": flags()}
    )
    return manifest


def check_target(manifest: dict[str, Any], name: str, identity: Mapping[str, Any]) -> None:
    """Note who answers. Raises RunError if another one did before, and for one target under two
    names, whose cells would be the same."""
    for other, known in manifest["targets"].items():
        if other != name and not differences(known, identity):
            raise RunError(
                f"The targets {other!r} and {name!r} are the same, and so are their answers. "
                "Remove one of them, or ask the second in another run."
            )
    before = manifest["targets"].setdefault(name, dict(identity))
    changed = differences(before, identity)
    if changed:
        raise RunError(
            f"The target {name!r} is not the one that this run was begun with: "
            f"{'; '.join(changed)}. Answers of two would mix: choose another folder with --out."
        )


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """What names another target, as sentences; what it says of itself does not count."""
    return [
        f"{key} {_short(before.get(key))} before, {_short(now.get(key))} now"
        for key in sorted({*before, *now} - {"says"})
        if before.get(key) != now.get(key)
    ]


def _short(value: Any) -> str:
    text = str(value)
    return f"{text[:8]}..." if len(text) == 32 else text


def save(folder: Path, manifest: Mapping[str, Any]) -> None:
    """Write the manifest, whole or not at all."""
    text = json.dumps(manifest, indent=2, ensure_ascii=False)
    store.write(folder / store.MANIFEST, text + "\n")


def read(folder: Path) -> dict[str, Any]:
    """The manifest of a run folder. Raises RunError where there is none."""
    path = folder / store.MANIFEST
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        why = "it is a file" if folder.is_file() else f"it has no {store.MANIFEST}"
        raise RunError(f"{folder} is no run folder: {why}.") from None
    except ValueError as error:
        raise _damaged(folder, str(error)) from None
    if not isinstance(found, dict):
        raise _damaged(folder, "it holds no object")
    if found.get("format") != FORMAT:
        raise RunError(f"{path} has format {found.get('format')}, and {FORMAT} is read here.")
    for key, kind in _KEYS.items():
        if key not in found or not isinstance(found[key], kind):
            raise _damaged(folder, f"`{key}` is missing or of another kind")
    return found


def _damaged(folder: Path, why: str) -> RunError:
    return RunError(
        f"{folder / store.MANIFEST} is damaged: {why}. Put a copy of it back; or delete it and run "
        f"the same declaration again with --out {folder}, which keeps the answers."
    )


def now() -> str:
    """The time in UTC, to the second."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def versions() -> dict[str, str]:
    """Of the toolkit and of what computes."""
    found = {"toolkit": toolkit.__version__}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def flags() -> dict[str, Any]:
    """What is set of what changes numbers."""
    import jax

    options = ("jax_default_prng_impl", "jax_threefry_partitionable", "jax_enable_x64")
    found = {name: os.environ[name] for name in FLAGS if name in os.environ}
    found |= {name: getattr(jax.config, name, None) for name in options}
    return found | {"matmul_precision": getattr(jax.config, "jax_default_matmul_precision", None)}


def devices() -> dict[str, Any]:
    """What a model in this process runs on."""
    import jax

    found = jax.devices()
    return {"platform": found[0].platform, "kind": found[0].device_kind, "count": len(found)}


def commit() -> dict[str, Any] | None:
    """Of the working folder: the commit, and a sum of what differs from it; None without git."""
    head = _git("rev-parse", "HEAD")
    if head is None:
        return None
    diff = _git("diff", "HEAD") or b""
    dirty = hashlib.blake2b(diff, digest_size=8).hexdigest() if diff else None
    return {"commit": head.decode().strip(), "diff": dirty}


def _git(*words: str) -> bytes | None:
    try:
        done = subprocess.run(["git", *words], capture_output=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None
