"""Qwen 3 with mixtures of experts, in all layers or in some.

Names and defaults: Qwen3MoeConfig and Qwen3MoeForCausalLM of transformers; tensors are named as in
the published files.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from toolkit.models.config import Layer, ModelConfig
from toolkit.models.families import Part
from toolkit.models.families.attributes import Attributes
from toolkit.models.families.names import Experts, llama_weights
from toolkit.models.families.rope import read_rope
from toolkit.models.families.sizes import HARMLESS, check_experts, opened, read_sizes

ARCHITECTURE = "Qwen3MoeForCausalLM"

EXPERTS = Experts(
    router="mlp.gate",
    gate="mlp.experts.{}.gate_proj",
    up="mlp.experts.{}.up_proj",
    down="mlp.experts.{}.down_proj",
)


def config(raw: Mapping[str, Any]) -> ModelConfig:
    """Qwen3MoeConfig as a ModelConfig. Raises UnsupportedModel, CheckpointError."""
    a = opened(raw, family="qwen3_moe", architecture=ARCHITECTURE)
    a.expect("hidden_act", "silu")
    sizes = read_sizes(a, context=32768, kv_heads=4)
    bias = a.flag("attention_bias", False)
    made = ModelConfig(
        family="qwen3_moe",
        **sizes,
        kinds=_kinds(a, sizes["layers"]),
        rope=read_rope(a, head_width=sizes["head_width"], context=sizes["context"]),
        norm_epsilon=a.number("rms_norm_eps", 1e-6),
        query_key_norm="head",
        qkv_bias=bias,
        output_bias=bias,
        experts=_experts(a),
        experts_used=a.integer("num_experts_per_tok", 8),
        expert_width=a.integer("moe_intermediate_size", 768),
        experts_normalised=a.flag("norm_topk_prob", False),
        tied_head=a.flag("tie_word_embeddings", False),
    )
    check_experts(made)
    # transformers reads `max_window_layers` for the dense Qwen 3 only: here all layers slide.
    a.done(HARMLESS | {"max_window_layers"})
    return made


def _kinds(a: Attributes, layers: int) -> tuple[Layer, ...]:
    """Every `decoder_sparse_step`-th layer is sparse, but for those of `mlp_only_layers`."""
    slides, window = a.flag("use_sliding_window", False), a.nullable_integer("sliding_window", 4096)
    step, dense = a.integer("decoder_sparse_step", 1), a.take("mlp_only_layers", [])
    return tuple(
        Layer(window=window if slides else None, sparse=i not in dense and (i + 1) % step == 0)
        for i in range(layers)
    )


def _experts(a: Attributes) -> int:
    """How many there are, under the older name or the newer."""
    newer = a.integer("num_local_experts", 128)
    return a.integer("num_experts", newer)


def weights(c: ModelConfig) -> dict[str, tuple[Part, ...]]:
    """Our leaf -> the tensors of Qwen3MoeForCausalLM whose rows make it."""
    return llama_weights(c, experts=EXPERTS)
