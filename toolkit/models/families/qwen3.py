"""Qwen 3: Llama with a norm on the queries and keys of each head.

Names and defaults: Qwen3Config and Qwen3ForCausalLM of transformers.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from toolkit.models.config import ModelConfig
from toolkit.models.families import Part
from toolkit.models.families.names import llama_weights
from toolkit.models.families.qwen2 import upper_windows
from toolkit.models.families.rope import read_rope
from toolkit.models.families.sizes import HARMLESS, opened, read_sizes

ARCHITECTURE = "Qwen3ForCausalLM"


def config(raw: Mapping[str, Any]) -> ModelConfig:
    """Qwen3Config as a ModelConfig. Raises UnsupportedModel, CheckpointError."""
    a = opened(raw, family="qwen3", architecture=ARCHITECTURE)
    a.expect("hidden_act", "silu")
    sizes = read_sizes(a, context=32768, head_width=128, kv_heads=32)
    bias = a.flag("attention_bias", False)
    made = ModelConfig(
        family="qwen3",
        **sizes,
        kinds=upper_windows(a, sizes["layers"]),
        rope=read_rope(a, head_width=sizes["head_width"], context=sizes["context"]),
        norm_epsilon=a.number("rms_norm_eps", 1e-6),
        query_key_norm="head",
        tied_head=a.flag("tie_word_embeddings", False),
        qkv_bias=bias,
        output_bias=bias,
    )
    a.done(HARMLESS)
    return made


def weights(c: ModelConfig) -> dict[str, tuple[Part, ...]]:
    """Our leaf -> the tensors of Qwen3ForCausalLM whose rows make it."""
    return llama_weights(c)
