"""A decoder-only transformer in Flax NNX, and how weights get into it. No sampling, no text.

    folder = resolve("smollm2-135m-instruct")      a name, a path or a hub id -> a local folder
    decoder = load(folder)                         the folder -> nnx.Module with its weights

The names are looked up on first use, so that one file of the room can be imported without JAX and
Flax.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from toolkit.models.cache import KVCache
    from toolkit.models.catalog import DEFAULT, resolve
    from toolkit.models.checkpoint import load
    from toolkit.models.config import ModelConfig
    from toolkit.models.decoder import Decoder

__all__ = ["DEFAULT", "Decoder", "KVCache", "ModelConfig", "load", "resolve"]

_HOMES = {
    "DEFAULT": "catalog",
    "Decoder": "decoder",
    "KVCache": "cache",
    "ModelConfig": "config",
    "load": "checkpoint",
    "resolve": "catalog",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
