"""SmolLM3: Llama without rotary embedding in every fourth layer.

Names and defaults: SmolLM3Config and SmolLM3ForCausalLM of transformers.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from toolkit.models.config import Layer, ModelConfig
from toolkit.models.families import Part
from toolkit.models.families.attributes import Attributes
from toolkit.models.families.names import llama_weights
from toolkit.models.families.rope import read_rope
from toolkit.models.families.sizes import HARMLESS, opened, read_sizes, windowed

ARCHITECTURE = "SmolLM3ForCausalLM"


def config(raw: Mapping[str, Any]) -> ModelConfig:
    """SmolLM3Config as a ModelConfig. Raises UnsupportedModel, CheckpointError."""
    a = opened(raw, family="smollm3", architecture=ARCHITECTURE)
    a.expect("hidden_act", "silu")
    sizes = read_sizes(a, context=32768)
    bias = a.flag("attention_bias", False)
    made = ModelConfig(
        family="smollm3",
        **sizes,
        kinds=_kinds(a, sizes["layers"]),
        rope=read_rope(
            a, head_width=sizes["head_width"], context=sizes["context"], theta=2_000_000.0
        ),
        norm_epsilon=a.number("rms_norm_eps", 1e-6),
        tied_head=a.flag("tie_word_embeddings", True),
        qkv_bias=bias,
        output_bias=bias,
        mlp_bias=a.flag("mlp_bias", False),
    )
    # Both come from the trainer's settings, and SmolLM3ForCausalLM reads neither.
    a.done(HARMLESS | {"max_window_layers", "pretraining_tp"})
    return made


def _kinds(a: Attributes, layers: int) -> tuple[Layer, ...]:
    """`no_rope_layers` says 1 where a layer does turn."""
    interval = a.integer("no_rope_layer_interval", 4)
    listed = a.listed("no_rope_layers", layers, (0, 1))
    turns = listed or [int((i + 1) % interval != 0) for i in range(layers)]
    slides, window = a.flag("use_sliding_window", False), a.nullable_integer("sliding_window", None)
    window = window if slides else None
    default = [window is not None and not turn for turn in turns]
    return tuple(
        Layer(window=wide, rope="global" if turn else None)
        for wide, turn in zip(windowed(a, layers, window, default), turns, strict=True)
    )


def weights(c: ModelConfig) -> dict[str, tuple[Part, ...]]:
    """Our leaf -> the tensors of SmolLM3ForCausalLM whose rows make it."""
    return llama_weights(c)
