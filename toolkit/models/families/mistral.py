"""Mistral: Llama with a sliding window.

Names and defaults: MistralConfig and MistralForCausalLM of transformers.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from toolkit.models.config import ModelConfig
from toolkit.models.families import Part
from toolkit.models.families.names import llama_weights
from toolkit.models.families.rope import read_rope
from toolkit.models.families.sizes import HARMLESS, all_windowed, opened, read_sizes

ARCHITECTURE = "MistralForCausalLM"


def config(raw: Mapping[str, Any]) -> ModelConfig:
    """MistralConfig as a ModelConfig. Raises UnsupportedModel, CheckpointError."""
    a = opened(raw, family="mistral", architecture=ARCHITECTURE)
    a.expect("hidden_act", "silu")
    sizes = read_sizes(a, context=131072, kv_heads=8)
    made = ModelConfig(
        family="mistral",
        **sizes,
        kinds=all_windowed(sizes["layers"], a.nullable_integer("sliding_window", 4096)),
        rope=read_rope(a, head_width=sizes["head_width"], context=sizes["context"]),
        norm_epsilon=a.number("rms_norm_eps", 1e-6),
        tied_head=a.flag("tie_word_embeddings", False),
    )
    a.done(HARMLESS)
    return made


def weights(c: ModelConfig) -> dict[str, tuple[Part, ...]]:
    """Our leaf -> the tensors of MistralForCausalLM whose rows make it."""
    return llama_weights(c)
