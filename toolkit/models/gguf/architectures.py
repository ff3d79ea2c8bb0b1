"""What llama.cpp calls an architecture, and the family that it is here.

The metadata of a file becomes config.json, which the family then reads as it reads any other. What
the format does not hold is what llama.cpp builds in, noted at each place. Sources: conversion/*.py
and src/models/*.cpp of llama.cpp.
"""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Callable, Mapping
from typing import Any

from toolkit.errors import UnsupportedModel
from toolkit.models.families.attributes import Attributes
from toolkit.models.gguf.fields import (
    Sizes,
    attention_scalar,
    base,
    count,
    has_tensor,
    layer_types,
    long_rope,
    optional,
    read_sizes,
    share,
    shortest,
    turned,
)
from toolkit.models.gguf.reader import GGUFFile

Config = dict[str, Any]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Architecture:
    """How files of one architecture say what config.json says."""

    config: Callable[[Attributes, GGUFFile, Sizes], Config]
    """What only this architecture says; it holds `model_type`."""
    families: tuple[str, ...]
    """Each `model_type` whose models have this architecture in GGUF."""
    rope: tuple[str, ...] = ("rope_freqs.weight",)
    """Tensors that scale the rotary embedding: read into the configuration, not as weights."""


def _llama(a: Attributes, file: GGUFFile, sizes: Sizes) -> Config:
    """Llama, and Mixtral where it has experts. The window of a Mistral is not in the format."""
    made = {**turned(a, file, sizes), "rms_norm_eps": _rms_epsilon(a), "hidden_act": "silu"}
    if experts := count(a, "expert_count"):
        used = a.integer("expert_used_count")
        return {
            **made,
            "model_type": "mixtral",
            "num_local_experts": experts,
            "num_experts_per_tok": used,
        }
    return {
        **made,
        "model_type": "llama",
        "attention_bias": has_tensor(file, "attn_q.bias"),
        "mlp_bias": has_tensor(file, "ffn_gate.bias"),
    }


def _smollm3(a: Attributes, file: GGUFFile, sizes: Sizes) -> Config:
    """Every fourth layer does not turn: built in."""
    return {
        "model_type": "smollm3",
        **turned(a, file, sizes),
        "rms_norm_eps": _rms_epsilon(a),
        "no_rope_layer_interval": 4,
        "attention_bias": has_tensor(file, "attn_q.bias"),
        "mlp_bias": has_tensor(file, "ffn_gate.bias"),
    }


def _qwen2(a: Attributes, file: GGUFFile, sizes: Sizes) -> Config:
    return {"model_type": "qwen2", **turned(a, file, sizes), "rms_norm_eps": _rms_epsilon(a)}


def _biased(kind: str) -> Callable[[Attributes, GGUFFile, Sizes], Config]:
    """Qwen 3 and OLMo 2: biases of attention are there or not."""

    def config(a: Attributes, file: GGUFFile, sizes: Sizes) -> Config:
        return {
            "model_type": kind,
            **turned(a, file, sizes),
            "rms_norm_eps": _rms_epsilon(a),
            "attention_bias": has_tensor(file, "attn_q.bias"),
        }

    return config


def _qwen3_moe(a: Attributes, file: GGUFFile, sizes: Sizes) -> Config:
    """Every layer is a mixture, and the shares of the experts used sum to 1: both built in."""
    a.expect("expert_shared_count", 0)
    a.expect("expert_gating_func", 1)
    a.expect("expert_weights_norm", True)
    a.expect("expert_weights_scale", 1.0, 0.0)
    return {
        **_biased("qwen3_moe")(a, file, sizes),
        "num_experts": a.integer("expert_count"),
        "num_experts_per_tok": a.integer("expert_used_count"),
        "moe_intermediate_size": a.integer("expert_feed_forward_length"),
        "norm_topk_prob": True,
    }


def _gemma2(a: Attributes, file: GGUFFile, sizes: Sizes) -> Config:
    rope = turned(a, file, sizes)
    a.expect("rope.freq_base_swa", rope["rope_theta"])
    return {
        "model_type": "gemma2",
        **rope,
        "rms_norm_eps": _rms_epsilon(a),
        "hidden_activation": "gelu_pytorch_tanh",
        "sliding_window": a.integer("attention.sliding_window", 4096),
        "layer_types": layer_types(a, file, sizes, period=2),
        "query_pre_attn_scalar": attention_scalar(a, sizes, by_width=46),
        "attn_logit_softcapping": shortest(a.number("attn_logit_softcapping", 50.0)),
        "final_logit_softcapping": shortest(a.number("final_logit_softcapping", 30.0)),
    }


def _gemma3(a: Attributes, file: GGUFFile, sizes: Sizes) -> Config:
    """Layers without a window turn by the global base, and so do all where there is none."""
    slides = count(a, "attention.sliding_window")
    return {
        "model_type": "gemma3_text",
        **turned(a, file, sizes),
        "rope_local_base_freq": base(a, "rope.freq_base_swa"),
        "rms_norm_eps": _rms_epsilon(a),
        "hidden_activation": "gelu_pytorch_tanh",
        "sliding_window": slides or None,
        "layer_types": layer_types(a, file, sizes, period=6 if slides else 1),
        "query_pre_attn_scalar": attention_scalar(a, sizes, by_width=62),
        "attn_logit_softcapping": optional(a, "attn_logit_softcapping"),
        "final_logit_softcapping": optional(a, "final_logit_softcapping"),
    }


def _phi3(a: Attributes, file: GGUFFile, sizes: Sizes) -> Config:
    """A window of 0 says that there is none."""
    original = a.integer("rope.scaling.original_context_length", 4096)
    return {
        "model_type": "phi3",
        "rope_theta": base(a),
        "partial_rotary_factor": share(a, sizes),
        "original_max_position_embeddings": original,
        **long_rope(a, file),
        "rms_norm_eps": _rms_epsilon(a),
        "sliding_window": count(a, "attention.sliding_window") or None,
    }


def _gpt2(a: Attributes, file: GGUFFile, sizes: Sizes) -> Config:
    """The form of GELU with tanh is built in."""
    _plain_heads(a, sizes)
    return {
        "model_type": "gpt2",
        "layer_norm_epsilon": shortest(a.number("attention.layer_norm_epsilon")),
        "activation_function": "gelu_new",
    }


def _gpt_neox(a: Attributes, file: GGUFFile, sizes: Sizes) -> Config:
    """The activation is not in the format; the published models have the exact GELU."""
    _plain_heads(a, sizes)
    return {
        "model_type": "gpt_neox",
        "rotary_pct": share(a, sizes),
        "rotary_emb_base": base(a),
        "layer_norm_eps": shortest(a.number("attention.layer_norm_epsilon")),
        "hidden_act": "gelu",
        "use_parallel_residual": a.flag("use_parallel_residual", True),
        "attention_bias": has_tensor(file, "attn_qkv.bias"),
    }


ARCHITECTURES: Mapping[str, Architecture] = {
    "gemma2": Architecture(config=_gemma2, families=("gemma2",)),
    "gemma3": Architecture(config=_gemma3, families=("gemma3_text",)),
    "gpt2": Architecture(config=_gpt2, families=("gpt2",), rope=()),
    "gptneox": Architecture(config=_gpt_neox, families=("gpt_neox",), rope=()),
    "llama": Architecture(config=_llama, families=("llama", "mistral", "mixtral")),
    "olmo2": Architecture(config=_biased("olmo2"), families=("olmo2",)),
    "phi3": Architecture(
        config=_phi3,
        families=("phi3",),
        rope=("rope_factors_short.weight", "rope_factors_long.weight"),
    ),
    "qwen2": Architecture(config=_qwen2, families=("qwen2",)),
    "qwen3": Architecture(config=_biased("qwen3"), families=("qwen3",)),
    "qwen3moe": Architecture(config=_qwen3_moe, families=("qwen3_moe",)),
    "smollm3": Architecture(config=_smollm3, families=("smollm3",)),
}
"""`general.architecture` of a file -> how it is read."""


def architectures_of(kind: str) -> list[str]:
    """The architectures whose files can hold a model of this `model_type`."""
    return [name for name, one in ARCHITECTURES.items() if kind in one.families]


def read_metadata(file: GGUFFile) -> Config:
    """The metadata under the names of config.json, but for `architectures` and special tokens.

    Raises UnsupportedModel for an architecture or a field that is not handled, CheckpointError for
    fields that are missing or contradict each other.
    """
    name = _known(file)
    own = {
        k.removeprefix(f"{name}."): v for k, v in file.fields.items() if k.startswith(f"{name}.")
    }
    a = Attributes(own, family=name, source=file.path.name, within=f"{name}.")
    sizes = read_sizes(a, file)
    made = ARCHITECTURES[name].config(a, file, sizes)
    a.expect("attention.causal", True)
    a.expect("expert_count", 0)
    a.expect("expert_used_count", 0)
    a.done({"rope.scaling.finetuned"})
    named = _NAMED_SIZES.get(name, _SIZES)
    return {
        **made,
        **{theirs: getattr(sizes, ours) for theirs, ours in named.items()},
        "tie_word_embeddings": "output.weight" not in file.tensors,
    }


_SIZES = {
    "vocab_size": "vocabulary",
    "hidden_size": "width",
    "intermediate_size": "mlp_width",
    "num_hidden_layers": "layers",
    "num_attention_heads": "heads",
    "num_key_value_heads": "kv_heads",
    "head_dim": "head_width",
    "max_position_embeddings": "context",
}
"""Name in config.json -> ours."""

_NAMED_SIZES = {
    "gpt2": {
        "vocab_size": "vocabulary",
        "n_embd": "width",
        "n_inner": "mlp_width",
        "n_layer": "layers",
        "n_head": "heads",
        "n_positions": "context",
    },
    "gptneox": {k: v for k, v in _SIZES.items() if k not in ("num_key_value_heads", "head_dim")},
}
"""The same for architectures whose families have other names."""


def _known(file: GGUFFile) -> str:
    name = file.fields.get("general.architecture")
    if isinstance(name, str) and name in ARCHITECTURES:
        return name
    near = difflib.get_close_matches(str(name), ARCHITECTURES, n=1, cutoff=0.4)
    hint = f" The nearest is {near[0]!r}." if near else ""
    raise UnsupportedModel(
        f"`general.architecture` {name!r} in {file.path} is not handled (handled: "
        f"{', '.join(ARCHITECTURES)}).{hint} Choose a model of a supported family."
    )


def _plain_heads(a: Attributes, sizes: Sizes) -> None:
    """Refuse heads that are shared, or of another width than the family can say."""
    a.refuse_unless("attention.head_count_kv", sizes.kv_heads, (sizes.heads,))
    a.refuse_unless("attention.key_length", sizes.head_width, (sizes.width // sizes.heads,))


def _rms_epsilon(a: Attributes) -> float:
    return shortest(a.number("attention.layer_norm_rms_epsilon"))
