"""Tiny models of every family: what config.json says, weights that a seed gives, prompts.

Weights are drawn by name with NumPy's legacy generator, whose stream never changes, so that golden
files need to hold nothing but logits. Each case is named `family` or `family-switch`.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

VOCABULARY = 11
LENGTHS = (1, 7, 24)
"""Tokens of the prompts: one batch of three rows."""

SIZES: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "rms_norm_eps": 1e-5,
    "tie_word_embeddings": False,
    "pad_token_id": 0,
}
LLAMA3 = {
    "rope_type": "llama3",
    "factor": 4.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 16,
}
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 16}
LONGROPE = {
    "type": "longrope",
    "short_factor": [1.0, 1.5, 2.0, 2.5],
    "long_factor": [4.0, 5.0, 6.0, 7.0],
}
HEADS = {"num_key_value_heads": 4}

FAMILIES: dict[str, dict[str, Any]] = {
    "llama": SIZES,
    "smollm3": SIZES | {"num_hidden_layers": 4},
    "mistral": SIZES | {"sliding_window": 4, "head_dim": 8},
    "qwen2": SIZES,
    "qwen3": SIZES | {"head_dim": 16, "num_hidden_layers": 3},
    "gemma2": SIZES
    | {
        "head_dim": 16,
        "query_pre_attn_scalar": 24,
        "sliding_window": 5,
        "attn_logit_softcapping": 2.0,
        "final_logit_softcapping": 3.0,
        "tie_word_embeddings": True,
    },
    "gemma3_text": SIZES
    | {
        "head_dim": 16,
        "query_pre_attn_scalar": 24,
        "sliding_window": 5,
        "sliding_window_pattern": 3,
        "num_hidden_layers": 3,
        "rope_theta": 1_000_000.0,
        "rope_local_base_freq": 10_000.0,
        "tie_word_embeddings": True,
    },
    "phi3": SIZES,
    "olmo2": SIZES,
    "gpt2": {
        "vocab_size": VOCABULARY,
        "n_embd": 32,
        "n_head": 4,
        "n_layer": 2,
        "n_positions": 64,
        "bos_token_id": 0,
        "eos_token_id": 0,
    },
    "gpt_neox": {
        **SIZES,
        "num_key_value_heads": None,
        "rms_norm_eps": None,
        "layer_norm_eps": 1e-5,
        "rotary_pct": 0.5,
        "rotary_emb_base": 10_000,
    },
    "mixtral": SIZES | {"num_local_experts": 4, "num_experts_per_tok": 2},
    "qwen3_moe": SIZES
    | {
        "head_dim": 16,
        "moe_intermediate_size": 24,
        "num_experts": 5,
        "num_experts_per_tok": 2,
        "norm_topk_prob": True,
    },
}
"""`model_type` -> the rest of config.json."""

SWITCHES: dict[str, dict[str, dict[str, Any]]] = {
    "llama": {
        "llama3": {"rope_scaling": LLAMA3, "rope_theta": 500_000.0},
        "linear": {"rope_scaling": {"type": "linear", "factor": 2.5}, **HEADS},
        "yarn": {"rope_scaling": YARN, "attention_bias": True},
        "yarn-parts": {
            "rope_scaling": YARN
            | {"beta_fast": 8, "beta_slow": 0.05, "original_max_position_embeddings": 1024}
            | {"mscale": 0.7, "mscale_all_dim": 1.2, "truncate": False}
        },
    },
    "smollm3": {
        "window": {
            "use_sliding_window": True,
            "sliding_window": 4,
            "no_rope_layers": [1, 0, 0, 1],
            "tie_word_embeddings": True,
            "attention_bias": True,
            "mlp_bias": True,
        },
    },
    "mistral": {"whole": {"sliding_window": None, "head_dim": 16}},
    "qwen2": {
        "window": {
            "use_sliding_window": True,
            "sliding_window": 3,
            "max_window_layers": 1,
            "tie_word_embeddings": True,
        }
    },
    "qwen3": {
        "window": {
            "use_sliding_window": True,
            "sliding_window": 2,
            "layer_types": ["full_attention", "sliding_attention", "full_attention"],
            "attention_bias": True,
        }
    },
    "gemma2": {"uncapped": {"attn_logit_softcapping": None, "final_logit_softcapping": None}},
    "gemma3_text": {
        "scaled": {
            "rope_scaling": {"rope_type": "linear", "factor": 8.0},
            "sliding_window_pattern": 2,
            "num_hidden_layers": 2,
        }
    },
    "phi3": {
        "long": {
            "rope_scaling": LONGROPE,
            "original_max_position_embeddings": 32,
            "sliding_window": 6,
            **HEADS,
        },
        "partial": {"partial_rotary_factor": 0.5, "tie_word_embeddings": True},
    },
    "olmo2": {"bias": {"attention_bias": True, **HEADS}},
    "gpt2": {
        "untied": {"tie_word_embeddings": False, "n_inner": 40, "activation_function": "gelu"}
    },
    "gpt_neox": {"serial": {"use_parallel_residual": False, "attention_bias": False}},
    "mixtral": {"window": {"sliding_window": 4, "num_experts_per_tok": 1}},
    "qwen3_moe": {
        "mixed": {
            "norm_topk_prob": False,
            "decoder_sparse_step": 2,
            "attention_bias": True,
            "tie_word_embeddings": True,
        },
        "dense": {"mlp_only_layers": [0], "num_experts_per_tok": 5},
    },
}
"""`model_type` -> name of a case -> what it changes."""

CASES: dict[str, dict[str, Any]] = {
    name: {"model_type": kind, **{k: v for k, v in raw.items() if v is not None}} | changes
    for kind, raw in FAMILIES.items()
    for name, changes in {
        kind: {},
        **{f"{kind}-{switch}": changes for switch, changes in SWITCHES[kind].items()},
    }.items()
}
"""Name -> config.json."""


def weights(shapes: Mapping[str, tuple[int, ...]], *, offset: bool) -> dict[str, np.ndarray]:
    """Random float32 tensors: norms around 1, or around 0 where 1 is added, the rest around 0."""
    return {name: _drawn(name, shape, offset) for name, shape in shapes.items()}


def _drawn(name: str, shape: tuple[int, ...], offset: bool) -> np.ndarray:
    steps = np.random.RandomState(zlib.crc32(name.encode())).randint(-64, 65, shape)
    centre = 1.0 if "norm" in name or ".ln_" in name else 0.0
    if name.endswith(".bias") or offset:
        centre = 0.0
    return np.float32(centre) + steps.astype(np.float32) / np.float32(160)


def prompts(name: str) -> list[np.ndarray]:
    """The three prompts of a case."""
    random = np.random.RandomState(zlib.crc32(name.encode()))
    return [random.randint(0, VOCABULARY, length).astype(np.int32) for length in LENGTHS]


def write_case(folder: Path, raw: Mapping[str, Any], made: Mapping[str, np.ndarray]) -> Path:
    """A checkpoint folder."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(raw))
    save_file(dict(made), folder / "model.safetensors", metadata={"format": "pt"})
    return folder
