"""GPT-NeoX (Pythia): attention and MLP side by side, a part of each head turns, layer norms.

Names and defaults: GPTNeoXConfig and GPTNeoXForCausalLM of transformers.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

import numpy as np

from toolkit.models.config import Activation, ModelConfig
from toolkit.models.families import Part
from toolkit.models.families.rope import read_rope
from toolkit.models.families.sizes import HARMLESS, Sizes, check_sizes, opened

ARCHITECTURE = "GPTNeoXForCausalLM"

ACTIVATIONS: Mapping[str, Activation] = {
    "gelu": "gelu",
    "gelu_fast": "gelu_tanh",
    "gelu_new": "gelu_tanh",
    "relu": "relu",
}

UNUSED = frozenset(
    {"attention_probs_dropout_prob", "classifier_dropout", "hidden_dropout_prob", "is_decoder"}
)
"""Harmless here: dropout, and that it is a decoder."""


def config(raw: Mapping[str, Any]) -> ModelConfig:
    """GPTNeoXConfig as a ModelConfig. Raises UnsupportedModel, CheckpointError."""
    a = opened(raw, family="gpt_neox", architecture=ARCHITECTURE)
    activation = a.choice("hidden_act", tuple(ACTIVATIONS)) or "gelu"
    width, heads = a.integer("hidden_size", 6144), a.integer("num_attention_heads", 64)
    sizes = Sizes(
        vocab_size=a.integer("vocab_size", 50432),
        width=width,
        mlp_width=a.integer("intermediate_size", 24576),
        layers=a.integer("num_hidden_layers", 44),
        heads=heads,
        kv_heads=heads,
        head_width=width // heads,
        context=a.integer("max_position_embeddings", 2048),
    )
    check_sizes(sizes)
    bias = a.flag("attention_bias", True)
    made = ModelConfig(
        family="gpt_neox",
        **sizes,
        rope=read_rope(
            a,
            head_width=sizes["head_width"],
            context=sizes["context"],
            theta_name="rotary_emb_base",
            partial=0.25,
            partial_name="rotary_pct",
        ),
        norm="layer",
        norm_epsilon=a.number("layer_norm_eps", 1e-5),
        parallel=a.flag("use_parallel_residual", True),
        qkv_bias=bias,
        output_bias=bias,
        mlp_bias=True,
        activation=ACTIVATIONS[activation],
        gated=False,
        tied_head=a.flag("tie_word_embeddings", False),
    )
    a.done(HARMLESS | UNUSED)
    return made


def canonical(name: str) -> str | None:
    """Old files carry the causal mask; transformers has two names for the head."""
    if name.endswith((".attention.bias", ".attention.masked_bias")):
        return None
    return "embed_out.weight" if name == "lm_head.weight" else name


def weights(c: ModelConfig) -> dict[str, tuple[Part, ...]]:
    """Our leaf -> the tensors of GPTNeoXForCausalLM. Queries, keys and values lie in one, head by
    head."""
    leaves = {
        "embedding": (Part("gpt_neox.embed_in.weight", (c.vocab_size, c.width)),),
        **_norm("norm", "gpt_neox.final_layer_norm", c.width),
    }
    if not c.tied_head:
        leaves["head.kernel"] = (Part("embed_out.weight", (c.vocab_size, c.width)),)
    for i in range(c.layers):
        ours, theirs = f"blocks.{i}", f"gpt_neox.layers.{i}"
        fused = functools.partial(apart, heads=c.heads)
        attention, mlp = f"{theirs}.attention", f"{theirs}.mlp"
        leaves |= {
            **_norm(f"{ours}.attention_norm", f"{theirs}.input_layernorm", c.width),
            **_norm(f"{ours}.mlp_norm", f"{theirs}.post_attention_layernorm", c.width),
            f"{ours}.qkv.kernel": (
                Part(f"{attention}.query_key_value.weight", (3 * c.width, c.width), fused),
            ),
            f"{ours}.output.kernel": (Part(f"{attention}.dense.weight", (c.width, c.width)),),
            f"{ours}.gate_up.kernel": (
                Part(f"{mlp}.dense_h_to_4h.weight", (c.mlp_width, c.width)),
            ),
            f"{ours}.gate_up.bias": (Part(f"{mlp}.dense_h_to_4h.bias", (c.mlp_width,)),),
            f"{ours}.down.kernel": (Part(f"{mlp}.dense_4h_to_h.weight", (c.width, c.mlp_width)),),
            f"{ours}.down.bias": (Part(f"{mlp}.dense_4h_to_h.bias", (c.width,)),),
        }
        if c.qkv_bias:
            name = f"{attention}.query_key_value.bias"
            leaves[f"{ours}.qkv.bias"] = (Part(name, (3 * c.width,), fused),)
            leaves[f"{ours}.output.bias"] = (Part(f"{attention}.dense.bias", (c.width,)),)
    return leaves


def _norm(ours: str, theirs: str, width: int) -> dict[str, tuple[Part, ...]]:
    return {
        f"{ours}.scale": (Part(f"{theirs}.weight", (width,)),),
        f"{ours}.bias": (Part(f"{theirs}.bias", (width,)),),
    }


def apart(fused: np.ndarray, heads: int) -> np.ndarray:
    """Rows q0 k0 v0 q1 k1 v1 ..., K each, as q0 q1 ... k0 k1 ... v0 v1 ...: `[3 D, ...]`."""
    by_head = fused.reshape(heads, 3, -1, *fused.shape[1:])
    return by_head.swapaxes(0, 1).reshape(fused.shape)
