"""The Llama family: grouped heads, rotary embedding, RMS norm, gated SiLU MLP.

Llama 2, SmolLM, SmolLM2, TinyLlama and many more. Names and defaults: LlamaConfig and
LlamaForCausalLM of transformers.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from toolkit.errors import CheckpointError
from toolkit.models.config import ModelConfig
from toolkit.models.families import Part
from toolkit.models.families.attributes import Attributes

HARMLESS = frozenset(
    {
        "_attn_implementation_autoset",
        "_name_or_path",
        "bos_token_id",
        "dtype",
        "eos_token_id",
        "initializer_range",
        "is_llama_config",
        "pad_token_id",
        "torch_dtype",
        "transformers.js_config",
        "transformers_version",
        "unsloth_fixed",
        "unsloth_version",
        "use_cache",
    }
)
"""Attributes that may say anything: they do not touch the logits of a token sequence."""


def config(raw: Mapping[str, Any]) -> ModelConfig:
    """LlamaConfig as a ModelConfig. Raises UnsupportedModel, CheckpointError."""
    a = Attributes(raw, family="llama")
    a.expect("model_type", "llama")
    a.expect("architectures", ["LlamaForCausalLM"])
    a.expect("hidden_act", "silu")
    a.expect("attention_dropout", 0.0)
    a.expect("pretraining_tp", 1)
    a.expect("rope_interleaved", False)
    width, heads = a.integer("hidden_size"), a.integer("num_attention_heads")
    made = ModelConfig(
        family="llama",
        vocab_size=a.integer("vocab_size"),
        width=width,
        mlp_width=a.integer("intermediate_size"),
        layers=a.integer("num_hidden_layers"),
        heads=heads,
        kv_heads=a.integer("num_key_value_heads", heads),
        head_width=a.integer("head_dim", width // heads),
        context=a.integer("max_position_embeddings", 2048),
        rope_theta=a.rope_theta(10_000.0),
        norm_epsilon=a.number("rms_norm_eps", 1e-6),
        tied_head=a.flag("tie_word_embeddings", False),
        attention_bias=a.flag("attention_bias", False),
        mlp_bias=a.flag("mlp_bias", False),
    )
    a.done(HARMLESS)
    _check(made)
    return made


def _check(c: ModelConfig) -> None:
    if c.heads % c.kv_heads:
        raise CheckpointError(
            f"`num_attention_heads` in config.json must be a multiple of `num_key_value_heads`, "
            f"got {c.heads} and {c.kv_heads}."
        )
    if c.head_width % 2:
        raise CheckpointError(
            f"The head width must be even for the rotary embedding, got {c.head_width} "
            "(`head_dim`, or `hidden_size` // `num_attention_heads`)."
        )


def weights(c: ModelConfig) -> dict[str, tuple[Part, ...]]:
    """Our leaf -> the tensors of LlamaForCausalLM whose rows make it."""
    leaves = {
        "embedding": (Part("model.embed_tokens.weight", (c.vocab_size, c.width)),),
        "norm.scale": (Part("model.norm.weight", (c.width,)),),
    }
    if not c.tied_head:
        leaves["head.kernel"] = (Part("lm_head.weight", (c.vocab_size, c.width)),)
    for i in range(c.layers):
        leaves |= _block(c, ours=f"blocks.{i}", theirs=f"model.layers.{i}")
    return leaves


def _block(c: ModelConfig, *, ours: str, theirs: str) -> dict[str, tuple[Part, ...]]:
    q, kv, mlp = c.heads * c.head_width, c.kv_heads * c.head_width, f"{theirs}.mlp"
    attention = f"{theirs}.self_attn"
    qkv = {f"{attention}.q_proj": q, f"{attention}.k_proj": kv, f"{attention}.v_proj": kv}
    gate_up = {f"{mlp}.gate_proj": c.mlp_width, f"{mlp}.up_proj": c.mlp_width}
    return {
        f"{ours}.attention_norm.scale": (Part(f"{theirs}.input_layernorm.weight", (c.width,)),),
        f"{ours}.mlp_norm.scale": (Part(f"{theirs}.post_attention_layernorm.weight", (c.width,)),),
        **_linear(f"{ours}.qkv", qkv, c.width, c.attention_bias),
        **_linear(f"{ours}.output", {f"{attention}.o_proj": c.width}, q, c.attention_bias),
        **_linear(f"{ours}.gate_up", gate_up, c.width, c.mlp_bias),
        **_linear(f"{ours}.down", {f"{mlp}.down_proj": c.width}, c.mlp_width, c.mlp_bias),
    }


def _linear(
    leaf: str, outputs: Mapping[str, int], inputs: int, bias: bool
) -> dict[str, tuple[Part, ...]]:
    """Kernel and bias of one projection; `outputs` names the parts and their rows."""
    made = {
        f"{leaf}.kernel": tuple(Part(f"{n}.weight", (rows, inputs)) for n, rows in outputs.items())
    }
    if bias:
        made[f"{leaf}.bias"] = tuple(Part(f"{n}.bias", (rows,)) for n, rows in outputs.items())
    return made
