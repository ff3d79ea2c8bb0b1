"""Where the weights of our leaves lie in checkpoints that follow Llama's names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from toolkit.models.config import ModelConfig
from toolkit.models.families import Part

PRE_NORMS = {
    "attention_norm": "input_layernorm",
    "mlp_norm": "post_attention_layernorm",
}
"""Our norm -> its name in a layer of LlamaForCausalLM, where both stand before."""

FOUR_NORMS = {
    "attention_norm": "input_layernorm",
    "attention_post_norm": "post_attention_layernorm",
    "mlp_norm": "pre_feedforward_layernorm",
    "mlp_post_norm": "post_feedforward_layernorm",
}
"""The same for Gemma, where norms stand before and after."""

POST_NORMS = {
    "attention_post_norm": "post_attention_layernorm",
    "mlp_post_norm": "post_feedforward_layernorm",
}
"""The same for OLMo 2, where both stand after."""


class Experts(NamedTuple):
    """Names of a mixture's parts, within a layer."""

    router: str
    gate: str
    """With `{}` for the expert's number, as the other two."""
    up: str
    down: str


def llama_weights(
    c: ModelConfig, *, norms: Mapping[str, str] = PRE_NORMS, experts: Experts | None = None
) -> dict[str, tuple[Part, ...]]:
    """Our leaf -> the tensors whose rows make it."""
    leaves = {
        "embedding": (Part("model.embed_tokens.weight", (c.vocab_size, c.width)),),
        "norm.scale": (Part("model.norm.weight", (c.width,)),),
    }
    if not c.tied_head:
        leaves["head.kernel"] = (Part("lm_head.weight", (c.vocab_size, c.width)),)
    for i in range(c.layers):
        ours, theirs = f"blocks.{i}", f"model.layers.{i}"
        for norm, name in norms.items():
            leaves[f"{ours}.{norm}.scale"] = (Part(f"{theirs}.{name}.weight", (c.width,)),)
        leaves |= _attention(c, f"{ours}", f"{theirs}.self_attn")
        if c.kind(i).sparse and experts is not None:
            leaves |= _mixture(c, f"{ours}.mixture", theirs, experts)
        else:
            leaves |= _mlp(c, ours, f"{theirs}.mlp")
    return leaves


def _attention(c: ModelConfig, ours: str, theirs: str) -> dict[str, tuple[Part, ...]]:
    q, kv = c.heads * c.head_width, c.kv_heads * c.head_width
    qkv = {f"{theirs}.q_proj": q, f"{theirs}.k_proj": kv, f"{theirs}.v_proj": kv}
    leaves = {
        **linear(f"{ours}.qkv", qkv, c.width, bias=c.qkv_bias),
        **linear(f"{ours}.output", {f"{theirs}.o_proj": c.width}, q, bias=c.output_bias),
    }
    if c.query_key_norm:
        widths = (q, kv) if c.query_key_norm == "whole" else (c.head_width, c.head_width)
        leaves[f"{ours}.query_norm.scale"] = (Part(f"{theirs}.q_norm.weight", widths[:1]),)
        leaves[f"{ours}.key_norm.scale"] = (Part(f"{theirs}.k_norm.weight", widths[1:]),)
    return leaves


def _mlp(c: ModelConfig, ours: str, theirs: str) -> dict[str, tuple[Part, ...]]:
    gate_up = {f"{theirs}.gate_proj": c.mlp_width, f"{theirs}.up_proj": c.mlp_width}
    return {
        **linear(f"{ours}.gate_up", gate_up, c.width, bias=c.mlp_bias),
        **linear(f"{ours}.down", {f"{theirs}.down_proj": c.width}, c.mlp_width, bias=c.mlp_bias),
    }


def _mixture(c: ModelConfig, ours: str, theirs: str, names: Experts) -> dict[str, tuple[Part, ...]]:
    """Gate and up of one expert lie side by side, then those of the next."""
    wide, narrow = (c.expert_width, c.width), (c.width, c.expert_width)
    numbers = range(c.experts)
    return {
        f"{ours}.router.kernel": (Part(f"{theirs}.{names.router}.weight", (c.experts, c.width)),),
        f"{ours}.gate_up": tuple(
            Part(f"{theirs}.{name.format(i)}.weight", wide)
            for i in numbers
            for name in (names.gate, names.up)
        ),
        f"{ours}.down": tuple(
            Part(f"{theirs}.{names.down.format(i)}.weight", narrow) for i in numbers
        ),
    }


def linear(
    leaf: str, outputs: Mapping[str, int], inputs: int, *, bias: bool
) -> dict[str, tuple[Part, ...]]:
    """Kernel and bias of one projection; `outputs` names the parts and their rows."""
    made = {
        f"{leaf}.kernel": tuple(Part(f"{n}.weight", (rows, inputs)) for n, rows in outputs.items())
    }
    if bias:
        made[f"{leaf}.bias"] = tuple(Part(f"{n}.bias", (rows,)) for n, rows in outputs.items())
    return made
