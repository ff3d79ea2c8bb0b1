"""Gemma 2: four norms a layer, soft caps, a window in every other layer, scaled embeddings.

Norms scale by 1 more than what is stored. Names and defaults: Gemma2Config and Gemma2ForCausalLM of
transformers.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from toolkit.models.config import Layer, ModelConfig
from toolkit.models.families import Part
from toolkit.models.families.attributes import Attributes
from toolkit.models.families.names import FOUR_NORMS, llama_weights
from toolkit.models.families.rope import read_rope
from toolkit.models.families.sizes import HARMLESS, opened, read_sizes, windowed

ARCHITECTURE = "Gemma2ForCausalLM"


def config(raw: Mapping[str, Any]) -> ModelConfig:
    """Gemma2Config as a ModelConfig. Raises UnsupportedModel, CheckpointError."""
    a = opened(raw, family="gemma2", architecture=ARCHITECTURE)
    expect_activation(a)
    sizes = read_sizes(a, context=8192, head_width=256, kv_heads=4)
    window = a.nullable_integer("sliding_window", 4096)
    even = [i % 2 == 0 for i in range(sizes["layers"])]
    bias = a.flag("attention_bias", False)
    made = ModelConfig(
        family="gemma2",
        **sizes,
        kinds=tuple(Layer(window=w) for w in windowed(a, sizes["layers"], window, even)),
        rope=read_rope(a, head_width=sizes["head_width"], context=sizes["context"]),
        norm="rms_offset",
        norm_epsilon=a.number("rms_norm_eps", 1e-6),
        post_norm=True,
        qkv_bias=bias,
        output_bias=bias,
        attention_scale=a.number("query_pre_attn_scalar", 256) ** -0.5,
        attention_cap=a.nullable_number("attn_logit_softcapping", 50.0),
        activation="gelu_tanh",
        embedding_scale=sizes["width"] ** 0.5,
        tied_head=a.flag("tie_word_embeddings", True),
        logit_cap=a.nullable_number("final_logit_softcapping", 30.0),
    )
    a.done(HARMLESS)
    return made


def expect_activation(a: Attributes) -> None:
    """What both Gemmas of this kind do. `hidden_act` is the older name; transformers reads the
    newer."""
    a.expect("hidden_activation", "gelu_pytorch_tanh")
    a.expect("hidden_act", "gelu_pytorch_tanh")
    a.expect("use_bidirectional_attention", False)


def weights(c: ModelConfig) -> dict[str, tuple[Part, ...]]:
    """Our leaf -> the tensors of Gemma2ForCausalLM whose rows make it."""
    return llama_weights(c, norms=FOUR_NORMS)
