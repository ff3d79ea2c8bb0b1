"""Model families: one thin file each, from Hugging Face's names to ours.

A family is a module with two functions:

    config(raw)      what config.json says -> ModelConfig
    weights(config)  our leaf -> the parts of the checkpoint that make it, row after row

A leaf is named by its path in `toolkit.models.decoder.Decoder`, for example `blocks.0.qkv.kernel`.
What a family does not handle exactly it refuses by name: an attribute that is skipped in silence
is a model that is wrong in silence.
"""

from __future__ import annotations

import dataclasses
import difflib
import importlib
from collections.abc import Mapping
from types import ModuleType
from typing import Any

from toolkit.errors import UnsupportedModel
from toolkit.models.config import ModelConfig

FAMILIES: Mapping[str, str] = {"llama": "llama"}
"""`model_type` of config.json -> the file beside this one that handles it."""


@dataclasses.dataclass(frozen=True)
class Part:
    """One tensor of a checkpoint: its Hugging Face name and the shape that it must have."""

    name: str
    shape: tuple[int, ...]


def read_config(raw: Mapping[str, Any]) -> ModelConfig:
    """The sizes and switches that config.json asks for.

    Raises UnsupportedModel for a family or an attribute that is not handled, CheckpointError for
    attributes that are missing, of the wrong type or contradict each other.
    """
    kind = raw.get("model_type")
    if not isinstance(kind, str) or kind not in FAMILIES:
        near = difflib.get_close_matches(str(kind), FAMILIES, n=1, cutoff=0.4)
        hint = f" The nearest is {near[0]!r}." if near else ""
        raise UnsupportedModel(
            f"`model_type` {kind!r} is not supported; supported are {', '.join(FAMILIES)}.{hint} "
            "Choose a model of a supported family, or add a file to toolkit/models/families."
        )
    return _family(FAMILIES[kind]).config(raw)


def weight_parts(config: ModelConfig) -> dict[str, tuple[Part, ...]]:
    """Every leaf of the decoder and the checkpoint tensors whose rows make it, in order."""
    return _family(config.family).weights(config)


def _family(name: str) -> ModuleType:
    return importlib.import_module(f"{__name__}.{name}")
