"""Gemma 3, text only: five layers with a window and a rotary embedding of their own, then one
without.

Norms scale by 1 more than what is stored, those of queries and keys too. Names and defaults:
Gemma3TextConfig and Gemma3ForCausalLM of transformers.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from toolkit.models.config import Layer, ModelConfig, Rope
from toolkit.models.families import Part
from toolkit.models.families.attributes import Attributes
from toolkit.models.families.gemma2 import expect_activation
from toolkit.models.families.names import FOUR_NORMS, llama_weights
from toolkit.models.families.rope import read_rope
from toolkit.models.families.sizes import HARMLESS, Sizes, opened, read_sizes, windowed

ARCHITECTURE = "Gemma3ForCausalLM"


def config(raw: Mapping[str, Any]) -> ModelConfig:
    """Gemma3TextConfig as a ModelConfig. Raises UnsupportedModel, CheckpointError."""
    a = opened(raw, family="gemma3_text", architecture=ARCHITECTURE)
    expect_activation(a)
    sizes = read_sizes(a, context=131072, head_width=256, kv_heads=4)
    rope, local = _ropes(a, sizes)
    bias = a.flag("attention_bias", False)
    made = ModelConfig(
        family="gemma3",
        **sizes,
        kinds=_kinds(a, sizes["layers"]),
        rope=rope,
        local_rope=local,
        norm="rms_offset",
        norm_epsilon=a.number("rms_norm_eps", 1e-6),
        post_norm=True,
        query_key_norm="head",
        qkv_bias=bias,
        output_bias=bias,
        attention_scale=a.number("query_pre_attn_scalar", 256) ** -0.5,
        attention_cap=a.nullable_number("attn_logit_softcapping", None),
        activation="gelu_tanh",
        embedding_scale=sizes["width"] ** 0.5,
        tied_head=a.flag("tie_word_embeddings", True),
        logit_cap=a.nullable_number("final_logit_softcapping", None),
    )
    a.done(HARMLESS)
    return made


def _kinds(a: Attributes, layers: int) -> tuple[Layer, ...]:
    """Layers with a window turn by the local rotary embedding."""
    window = a.nullable_integer("sliding_window", 4096)
    period = a.integer("sliding_window_pattern", a.integer("_sliding_window_pattern", 6))
    default = [(i + 1) % period != 0 for i in range(layers)]
    return tuple(
        Layer(window=wide, rope="local" if wide else "global")
        for wide in windowed(a, layers, window, default)
    )


def _ropes(a: Attributes, sizes: Sizes) -> tuple[Rope, Rope]:
    """The global one, which may be scaled, and the local one, which may not."""
    new = a.mapping("rope_parameters")
    full, local = new.mapping("full_attention"), new.mapping("sliding_attention")
    new.done()
    width, context = sizes["head_width"], sizes["context"]
    return (
        read_rope(
            a,
            head_width=width,
            context=context,
            theta=1_000_000.0,
            sources=(full, a.mapping("rope_scaling")),
        ),
        read_rope(
            a,
            head_width=width,
            context=context,
            theta_name="rope_local_base_freq",
            sources=(local,),
            handled=("default",),
        ),
    )


def weights(c: ModelConfig) -> dict[str, tuple[Part, ...]]:
    """Our leaf -> the tensors of Gemma3ForCausalLM whose rows make it."""
    return llama_weights(c, norms=FOUR_NORMS)
