"""GPT-2: learned positions, layer norms, biases everywhere, kernels stored the other way round.

Names and defaults: GPT2Config and GPT2LMHeadModel of transformers.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from toolkit.models.config import Activation, Layer, ModelConfig
from toolkit.models.families import Part
from toolkit.models.families.sizes import HARMLESS, Sizes, check_sizes, opened

ARCHITECTURE = "GPT2LMHeadModel"

ACTIVATIONS: Mapping[str, Activation] = {
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "gelu": "gelu",
    "relu": "relu",
    "silu": "silu",
    "swish": "silu",
}

UNUSED = frozenset(
    {
        "_num_labels",
        "attn_pdrop",
        "gradient_checkpointing",
        "id2label",
        "label2id",
        "output_past",
        "summary_activation",
        "summary_first_dropout",
        "summary_proj_to_labels",
        "summary_type",
        "summary_use_proj",
        "task_specific_params",
    }
)
"""Harmless here: dropout, a head for sentences, defaults of other tasks."""


def config(raw: Mapping[str, Any]) -> ModelConfig:
    """GPT2Config as a ModelConfig. Raises UnsupportedModel, CheckpointError."""
    a = opened(raw, family="gpt2", architecture=ARCHITECTURE)
    a.expect("scale_attn_weights", True)
    a.expect("scale_attn_by_inverse_layer_idx", False)
    a.expect("reorder_and_upcast_attn", False)
    a.expect("add_cross_attention", False)
    activation = a.choice("activation_function", tuple(ACTIVATIONS)) or "gelu_new"
    width, heads = a.integer("n_embd", 768), a.integer("n_head", 12)
    context = a.integer("n_positions", 1024)
    a.expect("n_ctx", context)
    sizes = Sizes(
        vocab_size=a.integer("vocab_size", 50257),
        width=width,
        mlp_width=a.integer("n_inner", 4 * width),
        layers=a.integer("n_layer", 12),
        heads=heads,
        kv_heads=heads,
        head_width=width // heads,
        context=context,
    )
    check_sizes(sizes, turning=False)
    made = ModelConfig(
        family="gpt2",
        **sizes,
        kinds=(Layer(rope=None),) * sizes["layers"],
        learned_positions=True,
        norm="layer",
        norm_epsilon=a.number("layer_norm_epsilon", 1e-5),
        qkv_bias=True,
        output_bias=True,
        mlp_bias=True,
        activation=ACTIVATIONS[activation],
        gated=False,
        tied_head=a.flag("tie_word_embeddings", True),
    )
    a.done(HARMLESS | UNUSED)
    return made


def canonical(name: str) -> str | None:
    """The first files lack the prefix and carry the causal mask as `attn.bias`."""
    if name.endswith((".attn.bias", ".attn.masked_bias")):
        return None
    return name if name.startswith(("transformer.", "lm_head.")) else f"transformer.{name}"


def weights(c: ModelConfig) -> dict[str, tuple[Part, ...]]:
    """Our leaf -> the tensors of GPT2LMHeadModel. Queries, keys and values lie in one, in our
    order."""
    leaves = {
        "embedding": (Part("transformer.wte.weight", (c.vocab_size, c.width)),),
        "positions": (Part("transformer.wpe.weight", (c.context, c.width)),),
        **_both("norm", "scale", "transformer.ln_f", c.width),
    }
    if not c.tied_head:
        leaves["head.kernel"] = (Part("lm_head.weight", (c.vocab_size, c.width)),)
    for i in range(c.layers):
        ours, theirs = f"blocks.{i}", f"transformer.h.{i}"
        leaves |= {
            **_both(f"{ours}.attention_norm", "scale", f"{theirs}.ln_1", c.width),
            **_both(f"{ours}.qkv", "kernel", f"{theirs}.attn.c_attn", c.width, 3 * c.width),
            **_both(f"{ours}.output", "kernel", f"{theirs}.attn.c_proj", c.width, c.width),
            **_both(f"{ours}.mlp_norm", "scale", f"{theirs}.ln_2", c.width),
            **_both(f"{ours}.gate_up", "kernel", f"{theirs}.mlp.c_fc", c.width, c.mlp_width),
            **_both(f"{ours}.down", "kernel", f"{theirs}.mlp.c_proj", c.mlp_width, c.width),
        }
    return leaves


def _both(ours: str, leaf: str, theirs: str, *shape: int) -> dict[str, tuple[Part, ...]]:
    """Weight and bias of a norm `[D]` or of a projection stored `[in, out]`."""
    rows = np.transpose if len(shape) == 2 else None
    return {
        f"{ours}.{leaf}": (Part(f"{theirs}.weight", shape, rows),),
        f"{ours}.bias": (Part(f"{theirs}.bias", shape[-1:]),),
    }
