"""Tiny GGUF files of every architecture, written with the `gguf` package as llama.cpp's converter
writes them: its names of tensors, its orders of rows, its metadata.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import gguf
import numpy as np

from tests.models.tiny import neighbours, write_blocks
from tests.models.tiny_families import CASES, weights
from toolkit.models.families import read_config, weight_parts

ARCHITECTURES = {
    "llama": gguf.MODEL_ARCH.LLAMA,
    "mistral": gguf.MODEL_ARCH.LLAMA,
    "mixtral": gguf.MODEL_ARCH.LLAMA,
    "smollm3": gguf.MODEL_ARCH.SMOLLM3,
    "qwen2": gguf.MODEL_ARCH.QWEN2,
    "qwen3": gguf.MODEL_ARCH.QWEN3,
    "qwen3_moe": gguf.MODEL_ARCH.QWEN3MOE,
    "gemma2": gguf.MODEL_ARCH.GEMMA2,
    "gemma3_text": gguf.MODEL_ARCH.GEMMA3,
    "phi3": gguf.MODEL_ARCH.PHI3,
    "olmo2": gguf.MODEL_ARCH.OLMO2,
    "gpt2": gguf.MODEL_ARCH.GPT2,
    "gpt_neox": gguf.MODEL_ARCH.GPTNEOX,
}
"""`model_type` -> what the converter takes it for."""

UNSAID = {
    "llama-yarn-parts": "`mscale` and `truncate`",
    "mistral": "a window",
    "mixtral-window": "a window",
    "qwen2-window": "a window",
    "qwen3-window": "a window",
    "smollm3-window": "a window, and other layers that do not turn",
    "gemma2-uncapped": "the absence of caps",
    "gpt2-untied": "another activation",
    "qwen3_moe-dense": "layers without experts",
    "qwen3_moe-mixed": "layers without experts",
}
"""Cases that the format cannot hold, with what it lacks."""

SAID = [name for name in CASES if name not in UNSAID]
"""Cases that the format can hold."""


def case_weights(name: str) -> dict[str, np.ndarray]:
    """The tensors of a case under Hugging Face's names, as the golden logits were made with."""
    raw = CASES[name]
    parts = weight_parts(read_config(raw))
    shapes = {part.name: part.shape for group in parts.values() for part in group}
    return weights(shapes, offset=raw["model_type"].startswith("gemma"))


def write_case(
    path: Path,
    name: str,
    *,
    made: Mapping[str, np.ndarray] | None = None,
    extra: Mapping[str, np.ndarray] | None = None,
    kind: str = "F32",
    **changes: Any,
) -> Path:
    """A GGUF file of a case; its matrices have block type `kind`. A change of None leaves a field
    out."""
    raw = CASES[name]
    architecture = ARCHITECTURES[raw["model_type"]]
    prefix = gguf.MODEL_ARCH_NAMES[architecture]
    tensors = dict(converted(raw, case_weights(name) if made is None else made))
    tensors |= rope_tensors(raw) | dict(extra or {})
    fields = {f"{prefix}.{field}": value for field, value in metadata(raw).items()} | changes
    return write(path, prefix, fields, tensors, kind=kind)


def write(
    path: Path,
    architecture: str,
    fields: Mapping[str, Any],
    tensors: Mapping[str, np.ndarray],
    *,
    kind: str = "F32",
) -> Path:
    """A GGUF file. What blocks of `kind` do not divide is F32; fields of None are left out."""
    block = gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType[kind]][0]

    def kind_of(tensor: np.ndarray) -> str:
        return kind if tensor.ndim > 1 and tensor.shape[-1] % block == 0 else "F32"

    return write_blocks(path, architecture, fields, tensors, kind_of)


def metadata(raw: Mapping[str, Any]) -> dict[str, Any]:
    """What the converter writes about a config.json, without the architecture's prefix."""
    first = _first_of(raw)
    width, heads = first("hidden_size", "n_embd"), first("num_attention_heads", "n_head")
    kind = raw["model_type"]
    head = raw.get("head_dim", width // heads)
    fields = {
        "block_count": first("num_hidden_layers", "n_layer"),
        "context_length": first("max_position_embeddings", "n_positions"),
        "embedding_length": width,
        "feed_forward_length": raw.get("n_inner") or raw.get("intermediate_size", 4 * width),
        "attention.head_count": heads,
        "attention.head_count_kv": raw.get("num_key_value_heads"),
        "attention.layer_norm_rms_epsilon": raw.get("rms_norm_eps"),
        "rope.freq_base": raw.get("rope_theta", _THETA.get(kind)),
        "attention.key_length": raw.get("head_dim"),
        "attention.value_length": raw.get("head_dim"),
    }
    if kind in ("llama", "mistral", "mixtral", "smollm3"):
        fields |= {"vocab_size": raw["vocab_size"], "rope.dimension_count": head}
    return fields | _scaled(raw) | _OWN.get(kind, lambda raw, head: {})(raw, head)


_THETA = {"mixtral": 1_000_000.0, "smollm3": 2_000_000.0}
"""What the configuration of a family takes where config.json is silent."""


def _first_of(raw: Mapping[str, Any]) -> Callable[..., Any]:
    return lambda *names: next(raw[name] for name in names if name in raw)


def _scaled(raw: Mapping[str, Any]) -> dict[str, Any]:
    rope = raw.get("rope_scaling", {})
    way = rope.get("rope_type", rope.get("type"))
    if way not in ("linear", "yarn"):
        return {}
    fields = {"rope.scaling.type": way, "rope.scaling.factor": rope["factor"]}
    if way == "yarn":
        original = rope["original_max_position_embeddings"]
        fields["rope.scaling.original_context_length"] = original
    return fields


def _mixtral(raw: Mapping[str, Any], head: int) -> dict[str, Any]:
    return {
        "expert_count": raw["num_local_experts"],
        "expert_used_count": raw["num_experts_per_tok"],
    }


def _qwen3_moe(raw: Mapping[str, Any], head: int) -> dict[str, Any]:
    return {
        "expert_count": raw["num_experts"],
        "expert_used_count": raw["num_experts_per_tok"],
        "expert_feed_forward_length": raw["moe_intermediate_size"],
    }


def _gemma(raw: Mapping[str, Any], head: int) -> dict[str, Any]:
    """The scale and the pattern stand where the format has room for them; the converter takes them
    for granted."""
    return {
        "attn_logit_softcapping": raw.get("attn_logit_softcapping"),
        "final_logit_softcapping": raw.get("final_logit_softcapping"),
        "attention.sliding_window": raw["sliding_window"],
        "attention.sliding_window_pattern": raw.get("sliding_window_pattern"),
        "attention.scale": raw["query_pre_attn_scalar"] ** -0.5,
        "rope.freq_base_swa": raw.get("rope_local_base_freq"),
    }


def _phi3(raw: Mapping[str, Any], head: int) -> dict[str, Any]:
    original = raw.get("original_max_position_embeddings", raw["max_position_embeddings"])
    fields = {
        "rope.dimension_count": int(raw.get("partial_rotary_factor", 1.0) * head),
        "rope.freq_base": raw.get("rope_theta", 10_000.0),
        "rope.scaling.original_context_length": original,
        "attention.sliding_window": raw.get("sliding_window") or 0,
    }
    if "rope_scaling" in raw:
        grown = raw["max_position_embeddings"] / original
        factor = math.sqrt(1 + math.log(grown) / math.log(original))
        fields["rope.scaling.attn_factor"] = factor
    return fields


def _gpt2(raw: Mapping[str, Any], head: int) -> dict[str, Any]:
    return {"attention.layer_norm_epsilon": raw.get("layer_norm_epsilon", 1e-5)}


def _gpt_neox(raw: Mapping[str, Any], head: int) -> dict[str, Any]:
    return {
        "rope.dimension_count": int(raw["rotary_pct"] * head),
        "use_parallel_residual": raw.get("use_parallel_residual", True),
        "attention.layer_norm_epsilon": raw["layer_norm_eps"],
    }


_OWN: Mapping[str, Callable[[Mapping[str, Any], int], dict[str, Any]]] = {
    "mixtral": _mixtral,
    "qwen3_moe": _qwen3_moe,
    "gemma2": _gemma,
    "gemma3_text": _gemma,
    "phi3": _phi3,
    "gpt2": _gpt2,
    "gpt_neox": _gpt_neox,
}


def rope_tensors(raw: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """The tensors that say how the rotary embedding is scaled."""
    rope = raw.get("rope_scaling", {})
    way = rope.get("rope_type", rope.get("type"))
    if way == "longrope":
        return {
            f"rope_factors_{one}.weight": np.asarray(rope[f"{one}_factor"], np.float32)
            for one in ("short", "long")
        }
    return {"rope_freqs.weight": _llama3(raw, rope)} if way == "llama3" else {}


def _llama3(raw: Mapping[str, Any], rope: Mapping[str, Any]) -> np.ndarray:
    """A divisor for each frequency: long waves by the factor, short ones not, others between."""
    head = raw.get("head_dim", raw["hidden_size"] // raw["num_attention_heads"])
    low, high, factor = (rope[n] for n in ("low_freq_factor", "high_freq_factor", "factor"))
    trained, divisors = rope["original_max_position_embeddings"], []
    for pair in range(0, head, 2):
        wave = 2 * math.pi * raw["rope_theta"] ** (pair / head)
        smooth = (trained / wave - low) / (high - low)
        between = 1 / ((1 - smooth) / factor + smooth)
        divisors.append(
            1.0 if wave < trained / high else factor if wave > trained / low else between
        )
    return np.asarray(divisors, np.float32)


def converted(raw: Mapping[str, Any], made: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Tensors under the names and with the numbers that the converter gives them."""
    layers = raw.get("num_hidden_layers", raw.get("n_layer"))
    names = gguf.get_tensor_name_map(ARCHITECTURES[raw["model_type"]], layers)
    stored = {}
    for name, tensor in _stacked(made).items():
        theirs = names.get_name(name, try_suffixes=(".weight", ".bias"))
        assert theirs is not None, name
        stored[theirs] = np.ascontiguousarray(_changed(raw, name, tensor))
    return stored


def _stacked(made: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The matrices of all experts in one tensor."""
    experts: dict[str, list[np.ndarray]] = {}
    rest = {}
    for name, tensor in made.items():
        before, found, after = name.partition(".experts.")
        if not found:
            rest[name] = tensor
            continue
        prefix = before.replace("block_sparse_moe", "feed_forward").removeprefix("model.")
        prefix = before if ".mlp" in before else prefix
        experts.setdefault(f"{prefix}.experts.{after.partition('.')[2]}", []).append(tensor)
    return rest | {name: np.stack(matrices) for name, matrices in experts.items()}


def _changed(raw: Mapping[str, Any], name: str, tensor: np.ndarray) -> np.ndarray:
    """What the converter does to numbers and their order."""
    kind = raw["model_type"]
    heads = raw.get("num_attention_heads", raw.get("n_head"))
    if kind in ("llama", "mistral", "mixtral", "smollm3"):
        if ".q_proj." in name:
            return neighbours(tensor, heads)
        if ".k_proj." in name:
            return neighbours(tensor, raw["num_key_value_heads"])
    if kind.startswith("gemma") and name.endswith("norm.weight"):
        return tensor + 1
    if kind == "gpt2" and name.endswith(("c_attn.weight", "c_proj.weight", "c_fc.weight")):
        return tensor.T
    if kind == "gpt_neox" and ".query_key_value." in name:
        by_head = tensor.reshape(heads, 3, -1, *tensor.shape[1:])
        return np.concatenate([by_head[:, i].reshape(-1, *tensor.shape[1:]) for i in range(3)])
    return tensor
