"""The library of kernels: compiled once for this processor, then loaded and told to JAX.

The compiler is Zig's, which comes as a Python package (`ziglang`) and needs nothing else on the
machine.
"""

from __future__ import annotations

import ctypes
import hashlib
import importlib.metadata
import importlib.util
import os
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import jax

from toolkit.errors import InvalidRequest, UnsupportedModel
from toolkit.kernels.processor import cores, processor

SOURCE = Path(__file__).parent / "source"
OPERATIONS = (
    "toolkit_product",
    "toolkit_many_product",
    "toolkit_rounded_product",
    "toolkit_attention",
    "toolkit_norm",
    "toolkit_gate",
    "toolkit_moments",
    "toolkit_edit",
    "toolkit_draw",
    "toolkit_count",
    "toolkit_largest",
)
SWITCH = "TOOLKIT_KERNELS"
"""Environment variable: "off" does without the kernels where they are installed."""
WORDS = {"": True, "on": True, "1": True, "true": True, "yes": True}
WORDS |= {"off": False, "0": False, "false": False, "no": False}
COMPILER = "ziglang"
PATIENCE = 600
"""Seconds that the compiler may take; it takes about four."""
NOTED = ".sha256"
"""Beside the library: the sum of its content."""
FLAGS = ("-std=gnu11", "-O3", "-mcpu=native", "-ffp-contract=on", "-shared", "-fPIC")

_lock = threading.Lock()
_libraries: list[ctypes.CDLL] = []


def wanted(asked: bool | None) -> bool:
    """Whether to use the kernels on this machine: as asked, and unasked where they are installed.

    Raises UnsupportedModel when they are asked for and cannot be had, and InvalidRequest when the
    switch says neither yes nor no.
    """
    installed = importlib.util.find_spec(COMPILER) is not None
    cpu = jax.default_backend() == "cpu"
    if asked and not cpu:
        raise UnsupportedModel(
            f"`kernels` True is for a CPU, and JAX's device is {jax.default_backend()}. Leave it "
            "out."
        )
    if asked and not installed:
        raise UnsupportedModel(
            "`kernels` True needs the extra [kernels]: pip install 'completion-toolkit[kernels]'. "
            "Or leave it out: XLA computes everything."
        )
    if asked is None:
        return _switched_on() and installed and cpu
    return asked


def _switched_on() -> bool:
    word = os.environ.get(SWITCH, "")
    if word.strip().lower() not in WORDS:
        raise InvalidRequest(
            f'The environment variable {SWITCH} is "off" or "on", got {word!r}. Unset it to use '
            "the kernels where they are installed.",
            param="kernels",
        )
    return WORDS[word.strip().lower()]


def prepare(folder: Path) -> None:
    """Make the kernels callable in this process, compiled under `folder` when not there yet.

    Raises UnsupportedModel with the compiler's words when it fails.
    """
    with _lock:
        if _libraries:
            return
        try:
            library = ctypes.CDLL(str(_compiled(folder)))
        except (OSError, subprocess.TimeoutExpired) as error:
            raise UnsupportedModel(
                f"The kernels cannot be made or loaded under {folder}: {error} "
                f"Do without them: load(..., kernels=False), or set {SWITCH}=off."
            ) from error
        library.set_team_size(cores())
        library.ask_for_tiles()
        for count in (library.rounded_rows, library.few_rows):
            count.restype = ctypes.c_int64
        for name in OPERATIONS:
            call = jax.ffi.pycapsule(getattr(library, name))
            jax.ffi.register_ffi_target(name, call, platform="cpu")
        _libraries.append(library)


def has_many() -> bool:
    """Whether products of many rows have a kernel of their own here: with AVX-512, or by a matrix
    unit if the system lets this process use it; the kernels are prepared. The answer never
    changes."""
    return bool(_libraries[0].has_many())


def few_rows() -> int:
    """Up to how many rows the other kernel of a product is as quick; the kernels are prepared."""
    return _libraries[0].few_rows()


def rounded_rows() -> int:
    """Up to how many rows a product in 8 bits is quicker than XLA's on this processor; the kernels
    are prepared."""
    return _libraries[0].rounded_rows()


def _compiled(folder: Path) -> Path:
    """The library's file. Written beside its final place and renamed: two processes end well. One
    that is damaged, which would end the process when it is loaded, is made anew."""
    library = folder / f"kernels-{_sum()}.so"
    if _intact(library):
        return library
    print("Compiling the kernels for this processor, once ...", file=sys.stderr, flush=True)
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        made = Path(scratch) / library.name
        _compile(made, Path(scratch))
        noted = made.with_suffix(NOTED)
        noted.write_text(_digest(made))
        noted.replace(library.with_suffix(NOTED))
        made.replace(library)
    return library


def _intact(library: Path) -> bool:
    """Whether the file is there and what was compiled."""
    noted = library.with_suffix(NOTED)
    return library.is_file() and noted.is_file() and noted.read_text() == _digest(library)


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _sum() -> str:
    """Names what decides the library's content."""
    digest = hashlib.sha256(" ".join((*FLAGS, processor())).encode())
    for package in (COMPILER, "jaxlib"):
        digest.update(importlib.metadata.version(package).encode())
    for path in sorted(SOURCE.iterdir()):
        digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()[:16]


def _compile(made: Path, scratch: Path) -> None:
    command = [sys.executable, "-m", COMPILER, "cc", *FLAGS, "-I", jax.ffi.include_dir()]
    command += [*map(str, sorted(SOURCE.glob("*.c"))), "-lm", "-lpthread", "-o", str(made)]
    caches = {name: str(scratch) for name in ("ZIG_LOCAL_CACHE_DIR", "ZIG_GLOBAL_CACHE_DIR")}
    done = subprocess.run(
        command,
        env={**os.environ, **caches},
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
        timeout=PATIENCE,
    )
    if done.returncode:
        raise UnsupportedModel(
            f"The kernels could not be compiled for this machine: {done.stderr.strip()[-800:]} "
            f"Do without them: load(..., kernels=False), or set {SWITCH}=off."
        )
