"""OLMo 2: norms after attention and MLP and none before, and norms over all queries and all keys.

Names and defaults: Olmo2Config and Olmo2ForCausalLM of transformers.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from toolkit.models.config import ModelConfig
from toolkit.models.families import Part
from toolkit.models.families.names import POST_NORMS, llama_weights
from toolkit.models.families.rope import read_rope
from toolkit.models.families.sizes import HARMLESS, opened, read_sizes

ARCHITECTURE = "Olmo2ForCausalLM"


def config(raw: Mapping[str, Any]) -> ModelConfig:
    """Olmo2Config as a ModelConfig. Raises UnsupportedModel, CheckpointError."""
    a = opened(raw, family="olmo2", architecture=ARCHITECTURE)
    a.expect("hidden_act", "silu")
    sizes = read_sizes(a, context=2048)
    bias = a.flag("attention_bias", False)
    made = ModelConfig(
        family="olmo2",
        **sizes,
        rope=read_rope(a, head_width=sizes["head_width"], context=sizes["context"]),
        norm="rms_wide",
        norm_epsilon=a.number("rms_norm_eps", 1e-5),
        pre_norm=False,
        post_norm=True,
        query_key_norm="whole",
        tied_head=a.flag("tie_word_embeddings", False),
        qkv_bias=bias,
        output_bias=bias,
    )
    a.done(HARMLESS)
    return made


def weights(c: ModelConfig) -> dict[str, tuple[Part, ...]]:
    """Our leaf -> the tensors of Olmo2ForCausalLM whose rows make it."""
    return llama_weights(c, norms=POST_NORMS)
