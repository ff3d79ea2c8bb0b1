"""A prepared folder: a checkpoint in Hugging Face's form that this package wrote, with a manifest.

manifest.json is written last and gives the size and sha256 of every other file, the sum of what
they were made from, and the versions of the format and of the packages that wrote them.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from toolkit.errors import CheckpointError
from toolkit.models.jsonfile import read_json, write_json

FORMAT = 1
"""Raised whenever the same source would be prepared differently; part of the folder's name."""

MANIFEST = "manifest.json"


def write_manifest(
    folder: Path,
    *,
    source: Mapping[str, Any],
    writers: Mapping[str, str],
    sums: Mapping[str, str],
) -> None:
    """Describe every file in `folder`. `sums` gives the sha256 of files whose sum is known."""
    files = {
        path.name: {"bytes": path.stat().st_size, "sha256": sums.get(path.name) or sha256(path)}
        for path in sorted(folder.iterdir())
    }
    manifest = {"format": FORMAT, "writers": dict(writers), "source": dict(source), "files": files}
    write_json(folder / MANIFEST, manifest)


def check(folder: Path, *, verify: bool = False) -> None:
    """Raise CheckpointError if a file of a prepared folder is absent or not what was written.

    Sizes are always compared. The sum, which takes a second per few hundred megabytes, is compared
    for files that are younger than the manifest, and for all of them with `verify`.
    """
    manifest = folder / MANIFEST
    try:
        files = read_json(manifest)["files"]
        expected = {name: (int(e["bytes"]), str(e["sha256"])) for name, e in files.items()}
    except (CheckpointError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise damaged(folder, f"{MANIFEST} cannot be read ({error})") from error
    written = manifest.stat().st_mtime_ns
    younger = False
    for name, (size, digest) in expected.items():
        path = folder / name
        if not path.is_file():
            raise damaged(folder, f"{name} is gone")
        found = path.stat()
        if found.st_size != size:
            raise damaged(folder, f"{name} has {found.st_size} bytes instead of {size}")
        if verify or found.st_mtime_ns > written:
            younger |= found.st_mtime_ns > written
            if sha256(path) != digest:
                raise damaged(folder, f"{name} has another sha256 than {MANIFEST} says")
    if younger:
        _touch(manifest)


def _touch(manifest: Path) -> None:
    """Make the manifest the youngest file: a copied folder is hashed once, not on each load."""
    try:
        os.utime(manifest)
    except OSError:
        return  # a read-only cache: the next load hashes again, and is right


def damaged(folder: Path, reason: str) -> CheckpointError:
    """The error for a prepared folder that cannot be trusted.

    It is not repaired silently: damage means that something else writes to the cache or that the
    disk fails, which its owner should know.
    """
    return CheckpointError(
        f"The prepared model in {folder} is damaged: {reason}. "
        "Remove that folder and load the model again; it is then prepared anew."
    )


def sha256(path: Path) -> str:
    """The sha256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
