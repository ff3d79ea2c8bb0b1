"""The Llama family: grouped heads, rotary embedding, RMS norm, gated SiLU MLP.

Llama 2 and 3, SmolLM, SmolLM2, TinyLlama and many more. Names and defaults: LlamaConfig and
LlamaForCausalLM of transformers.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from toolkit.models.config import ModelConfig
from toolkit.models.families import Part
from toolkit.models.families.names import llama_weights
from toolkit.models.families.rope import read_rope
from toolkit.models.families.sizes import HARMLESS, opened, read_sizes

ARCHITECTURE = "LlamaForCausalLM"


def config(raw: Mapping[str, Any]) -> ModelConfig:
    """LlamaConfig as a ModelConfig. Raises UnsupportedModel, CheckpointError."""
    a = opened(raw, family="llama", architecture=ARCHITECTURE)
    a.expect("hidden_act", "silu")
    a.expect("pretraining_tp", 1)
    a.expect("rope_interleaved", False)
    sizes = read_sizes(a, context=2048)
    bias = a.flag("attention_bias", False)
    made = ModelConfig(
        family="llama",
        **sizes,
        rope=read_rope(a, head_width=sizes["head_width"], context=sizes["context"]),
        norm_epsilon=a.number("rms_norm_eps", 1e-6),
        tied_head=a.flag("tie_word_embeddings", False),
        qkv_bias=bias,
        output_bias=bias,
        mlp_bias=a.flag("mlp_bias", False),
    )
    a.done(HARMLESS | {"is_llama_config"})
    return made


def weights(c: ModelConfig) -> dict[str, tuple[Part, ...]]:
    """Our leaf -> the tensors of LlamaForCausalLM whose rows make it."""
    return llama_weights(c)
