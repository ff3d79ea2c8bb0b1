"""Compiled programs on disk: a second process starts warm."""

from __future__ import annotations

import importlib.metadata
from pathlib import Path

import jax

from toolkit.kernels.processor import processor


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
