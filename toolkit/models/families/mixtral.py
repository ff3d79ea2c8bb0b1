"""Mixtral: Mistral with a mixture of experts in every layer.

Names and defaults: MixtralConfig and MixtralForCausalLM of transformers; tensors are named as in
the published files.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from toolkit.models.config import Layer, ModelConfig
from toolkit.models.families import Part
from toolkit.models.families.names import Experts, llama_weights
from toolkit.models.families.rope import read_rope
from toolkit.models.families.sizes import HARMLESS, check_experts, opened, read_sizes

ARCHITECTURE = "MixtralForCausalLM"

EXPERTS = Experts(
    router="block_sparse_moe.gate",
    gate="block_sparse_moe.experts.{}.w1",
    up="block_sparse_moe.experts.{}.w3",
    down="block_sparse_moe.experts.{}.w2",
)


def config(raw: Mapping[str, Any]) -> ModelConfig:
    """MixtralConfig as a ModelConfig. Raises UnsupportedModel, CheckpointError."""
    a = opened(raw, family="mixtral", architecture=ARCHITECTURE)
    a.expect("hidden_act", "silu")
    sizes = read_sizes(a, context=131072, kv_heads=8)
    window = a.nullable_integer("sliding_window", None)
    made = ModelConfig(
        family="mixtral",
        **sizes,
        kinds=(Layer(window=window, sparse=True),) * sizes["layers"],
        rope=read_rope(
            a, head_width=sizes["head_width"], context=sizes["context"], theta=1_000_000.0
        ),
        norm_epsilon=a.number("rms_norm_eps", 1e-5),
        experts=a.integer("num_local_experts", 8),
        experts_used=a.integer("num_experts_per_tok", 2),
        expert_width=sizes["mlp_width"],
        tied_head=a.flag("tie_word_embeddings", False),
    )
    check_experts(made)
    a.done(HARMLESS | {"router_jitter_noise"})
    return made


def weights(c: ModelConfig) -> dict[str, tuple[Part, ...]]:
    """Our leaf -> the tensors of MixtralForCausalLM whose rows make it."""
    return llama_weights(c, experts=EXPERTS)
