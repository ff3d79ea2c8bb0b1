"""Phi-3 and Phi-4-mini: Llama with fused projections, a window, and LongRoPE.

LongRoPE turns keys by other angles once a prompt passes the length of the first training, those of
cached keys too. Here the context ends at that length, where one set of angles is exact.

Names and defaults: Phi3Config and Phi3ForCausalLM of transformers.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from toolkit.models.config import ModelConfig
from toolkit.models.families import Part
from toolkit.models.families.names import linear, llama_weights
from toolkit.models.families.rope import read_rope
from toolkit.models.families.sizes import HARMLESS, all_windowed, opened, read_sizes

ARCHITECTURE = "Phi3ForCausalLM"


def config(raw: Mapping[str, Any]) -> ModelConfig:
    """Phi3Config as a ModelConfig. Raises UnsupportedModel, CheckpointError."""
    a = opened(raw, family="phi3", architecture=ARCHITECTURE)
    a.expect("hidden_act", "silu")
    a.expect("attention_bias", False)
    a.expect("mlp_bias", False)
    a.expect("lm_head_bias", False)
    a.expect("full_attn_mod", 1)
    a.expect("interpolate_factor", 1)
    sizes = read_sizes(a, context=4096)
    original = a.integer("original_max_position_embeddings", 4096)
    rope = read_rope(
        a,
        head_width=sizes["head_width"],
        context=sizes["context"],
        partial=1.0,
        handled=("default", "longrope", "su"),
        original=original,
        cut=True,
    )
    if rope.ratios:
        sizes["context"] = min(sizes["context"], original)
    made = ModelConfig(
        family="phi3",
        **sizes,
        kinds=all_windowed(sizes["layers"], a.nullable_integer("sliding_window", None)),
        rope=rope,
        norm_epsilon=a.number("rms_norm_eps", 1e-5),
        tied_head=a.flag("tie_word_embeddings", False),
    )
    a.done(HARMLESS)
    return made


def weights(c: ModelConfig) -> dict[str, tuple[Part, ...]]:
    """Our leaf -> the tensors of Phi3ForCausalLM. Queries, keys and values lie in one, gate and up
    in another, each in our order."""
    leaves = llama_weights(c)
    heads = (c.heads + 2 * c.kv_heads) * c.head_width
    for i in range(c.layers):
        ours, theirs = f"blocks.{i}", f"model.layers.{i}"
        qkv, gate_up = f"{theirs}.self_attn.qkv_proj", f"{theirs}.mlp.gate_up_proj"
        leaves |= linear(f"{ours}.qkv", {qkv: heads}, c.width, bias=False)
        leaves |= linear(f"{ours}.gate_up", {gate_up: 2 * c.mlp_width}, c.width, bias=False)
    return leaves
