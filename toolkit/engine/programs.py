"""Compiled programs: on disk, so that a second process starts warm, and in a process for as long as
the system has room for them."""

from __future__ import annotations

import importlib.metadata
import logging
import threading
from pathlib import Path

import jax

from toolkit.kernels.processor import processor

log = logging.getLogger("toolkit.engine")

AREAS, GRANTED = Path("/proc/self/maps"), Path("/proc/sys/vm/max_map_count")
"""Of Linux: the areas of memory that this process has, a line each, and how many it may have."""
_left = 0
"""Areas that were there when programs were last dropped: something else holds them."""
FOUND = "/jax/compilation_cache/cache_hits"
"""JAX's name of the event that a program is read from disk."""
_here = threading.local()


def keep_programs(folder: Path) -> None:
    """Let JAX keep compiled programs under `folder`, unless the user has chosen a place already.

    Programs for a CPU hold its instructions, so the place is named after the processor and jaxlib.
    The directory is private: whoever can write to it can run code here.
    """
    if jax.config.values["jax_compilation_cache_dir"] is not None:
        return
    place = folder / f"{importlib.metadata.version('jaxlib')}-{processor()}"
    try:
        place.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError:  # programs are compiled anew then; nothing else is lost
        return
    jax.config.update("jax_compilation_cache_dir", str(place))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)


def programs_traced() -> int:
    """Programs of any engine that this thread has traced so far, to compile or to read them."""
    return getattr(_here, "traced", 0)


def note_trace() -> None:
    """Count one for this thread."""
    _here.traced = programs_traced() + 1


def programs_read() -> int:
    """Programs that this thread has read from disk so far, instead of compiling them."""
    return getattr(_here, "read", 0)


def _note(event: str, **_: str | int) -> None:
    if event == FOUND:
        _here.read = programs_read() + 1


jax.monitoring.register_event_listener(_note)


def crowded(share: float = 0.5) -> bool:
    """Whether compiled programs have taken this share of the areas of memory that were left for
    them.

    On a CPU XLA takes three for each function of a program, so some hundred programs take all that
    a process may have; then it ends the process.
    """
    try:
        held, granted = _areas(), int(GRANTED.read_text())
    except OSError:  # another system, without such a limit
        return False
    return held - _left > (granted - _left) * share


def drop_programs() -> None:
    """Drop all compiled programs of this process. One that is called again is read from the disk,
    or compiled anew."""
    global _left
    before = _areas()
    jax.clear_caches()
    _left = _areas()
    log.info("compiled programs are dropped: they held %d areas of memory", before - _left)


def _areas() -> int:
    with AREAS.open("rb") as lines:
        return sum(1 for _ in lines)
