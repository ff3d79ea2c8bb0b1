"""Qwen 2 and 2.5: Llama with biases on queries, keys and values, and windows in the upper layers.

Names and defaults: Qwen2Config and Qwen2ForCausalLM of transformers.
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

ARCHITECTURE = "Qwen2ForCausalLM"


def config(raw: Mapping[str, Any]) -> ModelConfig:
    """Qwen2Config as a ModelConfig. Raises UnsupportedModel, CheckpointError."""
    a = opened(raw, family="qwen2", architecture=ARCHITECTURE)
    a.expect("hidden_act", "silu")
    a.expect("use_mrope", False)
    sizes = read_sizes(a, context=32768, kv_heads=32)
    made = ModelConfig(
        family="qwen2",
        **sizes,
        kinds=upper_windows(a, sizes["layers"]),
        rope=read_rope(a, head_width=sizes["head_width"], context=sizes["context"]),
        norm_epsilon=a.number("rms_norm_eps", 1e-6),
        tied_head=a.flag("tie_word_embeddings", False),
        qkv_bias=True,
    )
    a.done(HARMLESS)
    return made


def upper_windows(a: Attributes, layers: int) -> tuple[Layer, ...]:
    """Windows from layer `max_window_layers` on, if `use_sliding_window` says so."""
    slides, window = a.flag("use_sliding_window", False), a.nullable_integer("sliding_window", 4096)
    window = window if slides else None
    first = a.take("max_window_layers", 28)
    default = [window is not None and i >= first for i in range(layers)]
    windows = windowed(a, layers, window, default)
    return tuple(Layer(window=w) for w in windows) if any(windows) else ()


def weights(c: ModelConfig) -> dict[str, tuple[Part, ...]]:
    """Our leaf -> the tensors of Qwen2ForCausalLM whose rows make it."""
    return llama_weights(c)
