"""Model families: one thin file each, from Hugging Face's names to ours.

A family is a module with three things:

    ARCHITECTURE     the class of transformers whose configuration and weights it reads
    config(raw)      what config.json says -> ModelConfig
    weights(config)  our leaf -> the parts of the checkpoint that make it, row after row

and, where checkpoints of the family differ among themselves,

    canonical(name)  a tensor's name as `weights` has it, or None for one that is not read

A leaf is named by its path in `toolkit.models.decoder.Decoder`, for example `blocks.0.qkv.kernel`.
What a family does not handle exactly it refuses by name: an attribute that is skipped in silence
is a model that is wrong in silence.
"""

from __future__ import annotations

import dataclasses
import difflib
import importlib
import re
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any

import numpy as np

from toolkit.errors import UnsupportedModel
from toolkit.models.config import ModelConfig

FAMILIES: Mapping[str, str] = {
    "gemma2": "gemma2",
    "gemma3_text": "gemma3",
    "gpt2": "gpt2",
    "gpt_neox": "gpt_neox",
    "llama": "llama",
    "mistral": "mistral",
    "mixtral": "mixtral",
    "olmo2": "olmo2",
    "phi3": "phi3",
    "qwen2": "qwen2",
    "qwen3": "qwen3",
    "qwen3_moe": "qwen3_moe",
    "smollm3": "smollm3",
}
"""`model_type` of config.json -> the file beside this one that handles it."""

_COMPUTED = re.compile(r"\.rotary_emb\.inv_freq$")
"""Buffers that old checkpoints carry and that follow from the configuration."""


@dataclasses.dataclass(frozen=True)
class Part:
    """One tensor of a checkpoint: its Hugging Face name and the shape that it must have."""

    name: str
    shape: tuple[int, ...]
    rows: Callable[[np.ndarray], np.ndarray] | None = None
    """What turns the tensor into rows of our leaf; None: it has them already."""


def read_config(raw: Mapping[str, Any]) -> ModelConfig:
    """The sizes and switches that config.json asks for.

    Raises UnsupportedModel for a family or an attribute that is not handled, CheckpointError for
    attributes that are missing, of the wrong type or contradict each other.
    """
    kind = raw.get("model_type")
    if not isinstance(kind, str) or kind not in FAMILIES:
        near = nearest(str(kind))
        hint = f" The nearest is {near!r}." if near else ""
        raise UnsupportedModel(
            f"`model_type` {kind!r} is not supported; supported are {', '.join(FAMILIES)}.{hint} "
            "Choose a model of a supported family, or add a file to toolkit/models/families."
        )
    return family(FAMILIES[kind]).config(raw)


def nearest(kind: str) -> str | None:
    """The supported `model_type` whose name is most like this one, if any is like it."""
    longer = [name for name in FAMILIES if name.startswith(kind)] if kind else []
    near = longer or difflib.get_close_matches(kind, FAMILIES, n=1, cutoff=0.4)
    return near[0] if near else None


def weight_parts(config: ModelConfig) -> dict[str, tuple[Part, ...]]:
    """Every leaf of the decoder and the checkpoint tensors whose rows make it, in order."""
    return family(config.family).weights(config)


def canonical_name(config: ModelConfig, name: str) -> str | None:
    """A tensor's name as `weight_parts` has it; None for a tensor that is not read."""
    if _COMPUTED.search(name):
        return None
    rename = getattr(family(config.family), "canonical", None)
    return name if rename is None else rename(name)


def family(name: str) -> ModuleType:
    """The module of a family, imported on first use."""
    return importlib.import_module(f"{__name__}.{name}")
