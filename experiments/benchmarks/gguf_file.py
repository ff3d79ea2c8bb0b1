"""The model's weights as GGUF files, for llama.cpp: F32 and Q8_0.

The numbers of the F32 file are those of the folder, unrounded. The Q8_0 file has 8 bits a weight
and a scale for each 32: it reads a quarter of the bytes and computes something else.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np

from toolkit.models.safetensors import read_safetensors

FORMATS = ("F32", "Q8_0")
BLOCK = 32
"""Weights that share a scale in Q8_0."""


def write_gguf(folder: Path, target: Path, form: str = "F32") -> Path:
    """Write the GGUF of a Llama folder to `target`, unless it is there and no older than the
    weights. `form` is one of FORMATS."""
    sources = sorted(folder.glob("*.safetensors"))
    if target.exists() and target.stat().st_mtime_ns >= max(
        source.stat().st_mtime_ns for source in sources
    ):
        return target
    from gguf import GGMLQuantizationType, GGUFWriter

    print(f"Writing {target.name}", flush=True)
    target.parent.mkdir(parents=True, exist_ok=True)
    making = target.with_suffix(".making")
    writer = GGUFWriter(making, "llama")
    config = _json(folder / "config.json")
    _write_sizes(writer, config, form)
    _write_tokenizer(writer, folder)
    for source in sources:
        _write_tensors(writer, read_safetensors(source), config, GGMLQuantizationType[form])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    os.replace(making, target)
    return target


def _json(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8"))


def _write_sizes(writer: Any, config: dict[str, Any], form: str) -> None:
    from gguf import LlamaFileType

    types = {"F32": LlamaFileType.ALL_F32, "Q8_0": LlamaFileType.MOSTLY_Q8_0}
    writer.add_file_type(types[form])
    writer.add_vocab_size(config["vocab_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_rope_dimension_count(_head_width(config))
    writer.add_rope_freq_base(config["rope_theta"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])


def _head_width(config: dict[str, Any]) -> int:
    return config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"]


def _write_tokenizer(writer: Any, folder: Path) -> None:
    """Vocabulary, merges, token types, special ids, and the name of the splitting rule."""
    from gguf import TokenType

    tokenizer = _json(folder / "tokenizer.json")
    model = tokenizer["model"]
    tokens = sorted(model["vocab"], key=model["vocab"].__getitem__)
    types = [TokenType.NORMAL] * len(tokens)
    for added in tokenizer["added_tokens"]:
        types[added["id"]] = TokenType.CONTROL if added["special"] else TokenType.USER_DEFINED
    merges = [m if isinstance(m, str) else " ".join(m) for m in model["merges"]]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm" if "Digits" in str(tokenizer["pre_tokenizer"]) else "gpt-2")
    writer.add_token_list(tokens)
    writer.add_token_types(types)
    writer.add_token_merges(merges)
    named = _json(folder / "tokenizer_config.json")
    for name, add in (
        ("bos_token", writer.add_bos_token_id),
        ("eos_token", writer.add_eos_token_id),
        ("unk_token", writer.add_unk_token_id),
        ("pad_token", writer.add_pad_token_id),
    ):
        if named.get(name) is not None:
            add(model["vocab"][named[name]])
    writer.add_add_bos_token(bool(named.get("add_bos_token")))


def _write_tensors(
    writer: Any, tensors: dict[str, np.ndarray], config: dict[str, Any], kind: Any
) -> None:
    """Matrices as `kind`; vectors, and rows that are no whole number of blocks, as F32."""
    from gguf import MODEL_ARCH, GGMLQuantizationType, get_tensor_name_map
    from gguf.quants import quantize

    names = get_tensor_name_map(MODEL_ARCH.LLAMA, config["num_hidden_layers"])
    heads = {"q_proj": config["num_attention_heads"], "k_proj": config["num_key_value_heads"]}
    for name, tensor in tensors.items():
        projection = name.split(".")[-2]
        values = np.asarray(tensor, np.float32)
        if projection in heads:
            values = neighbours(values, heads[projection])
        theirs = names.get_name(name, try_suffixes=(".weight", ".bias"))
        if values.ndim == 2 and values.shape[1] % BLOCK == 0 and kind != GGMLQuantizationType.F32:
            writer.add_tensor(theirs, quantize(values, kind), raw_dtype=kind)
        else:
            writer.add_tensor(theirs, values)


def neighbours(rows: np.ndarray, heads: int) -> np.ndarray:
    """Reorder each head's rows so that those that rotate together are neighbours.

    For heads of width 4, rows `a b c d` become `a c b d`. Source: llama.cpp's converter.
    """
    halves = rows.reshape(heads, 2, len(rows) // heads // 2, *rows.shape[1:])
    return np.ascontiguousarray(halves.swapaxes(1, 2)).reshape(rows.shape)
