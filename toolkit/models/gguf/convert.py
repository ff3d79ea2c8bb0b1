"""A GGUF file of the Llama architecture -> a folder that this package and Hugging Face both read.

The numbers are the file's own, turned into float32: nothing is rounded again.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from toolkit.errors import UnsupportedModel
from toolkit.models.checkpoint import WEIGHTS, check_tensors
from toolkit.models.families import read_config, weight_parts
from toolkit.models.families.attributes import Attributes
from toolkit.models.gguf.reader import GGUFFile, GGUFTensor, read_gguf
from toolkit.models.gguf.tokenizer import special_ids, tokenizer_files
from toolkit.models.jsonfile import write_json
from toolkit.models.prepared import sha256, write_manifest
from toolkit.models.safetensors import write_safetensors

_TENSORS = {
    "token_embd": "model.embed_tokens",
    "output_norm": "model.norm",
    "output": "lm_head",
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
"""Name in the file -> name in LlamaForCausalLM, both without block and without `.weight`."""


def prepare(
    source: Path,
    folder: Path,
    *,
    digest: str | None = None,
    tick: Callable[[int, int], None] = lambda done, total: None,
) -> None:
    """Write the prepared folder of a GGUF file into an empty `folder`, one tensor at a time.

    `digest` is the file's sha256 if it is known; `tick(done, total)` is told about each tensor.
    Raises UnsupportedModel for another architecture, attribute, tokenizer or block type,
    CheckpointError for a damaged file or tensors that do not fit its metadata.
    """
    file = read_gguf(source)
    raw = config_json(file)
    config = read_config(raw)
    shapes = {p.name: p.shape for parts in weight_parts(config).values() for p in parts}
    tensors = {hugging_face_name(name): tensor for name, tensor in file.tensors.items()}
    check_tensors(shapes, {name: t.shape for name, t in tensors.items()}, source)
    heads = {"q_proj": config.heads, "k_proj": config.kv_heads}

    def values() -> Iterator[np.ndarray]:
        for done, name in enumerate(shapes):
            tick(done, len(shapes))
            yield _values(name, tensors[name], heads)
        tick(len(shapes), len(shapes))

    for name, contents in tokenizer_files(file.fields, context=config.context).items():
        write_json(folder / name, contents)
    write_json(folder / "config.json", raw)
    write_json(folder / "generation_config.json", special_ids(file.fields))
    weights = write_safetensors(folder / WEIGHTS, shapes, values())
    write_manifest(
        folder,
        source={
            "file": source.name,
            "bytes": source.stat().st_size,
            "sha256": digest or sha256(source),
        },
        writers={name: version(name) for name in ("gguf", "numpy")},
        sums={WEIGHTS: weights},
    )


def config_json(file: GGUFFile) -> dict[str, Any]:
    """The metadata as Hugging Face's config.json. Raises UnsupportedModel, CheckpointError."""
    _check_kind(file)
    prefix = "llama."
    own = {n.removeprefix(prefix): v for n, v in file.fields.items() if n.startswith(prefix)}
    a = Attributes(own, family="llama", source=file.path.name, within=prefix)
    width, heads = a.integer("embedding_length"), a.integer("attention.head_count")
    head_width = a.integer("attention.key_length", width // heads)
    a.expect("attention.value_length", head_width)
    a.expect("rope.dimension_count", head_width)
    a.expect("rope.scaling.type", "none")
    a.expect("attention.causal", True)
    a.expect("expert_count", 0)
    a.expect("expert_used_count", 0)
    rows = file.tensors["token_embd.weight"].shape[0] if "token_embd.weight" in file.tensors else 1
    a.expect("vocab_size", rows)
    made = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": rows,
        "hidden_size": width,
        "intermediate_size": a.integer("feed_forward_length"),
        "num_hidden_layers": a.integer("block_count"),
        "num_attention_heads": heads,
        "num_key_value_heads": a.integer("attention.head_count_kv", heads),
        "head_dim": head_width,
        "max_position_embeddings": a.integer("context_length"),
        "rope_theta": a.number("rope.freq_base", 10_000.0),
        "rms_norm_eps": _shortest(a.number("attention.layer_norm_rms_epsilon")),
        "hidden_act": "silu",
        "tie_word_embeddings": "output.weight" not in file.tensors,
        "attention_bias": "blk.0.attn_q.bias" in file.tensors,
        "mlp_bias": "blk.0.ffn_gate.bias" in file.tensors,
        "torch_dtype": "float32",
        **special_ids(file.fields),
    }
    a.done()
    return made


def _check_kind(file: GGUFFile) -> None:
    fields = file.fields
    for name, handled in (
        ("general.architecture", "llama"),
        ("general.type", "model"),
        ("split.count", 1),
    ):
        if (found := fields.get(name, handled)) != handled:
            raise UnsupportedModel(
                f"`{name}` {found!r} in {file.path} is not handled (handled: {handled!r}). "
                "Use the model's Hugging Face folder, or a single file of the Llama architecture."
            )
    if "rope_freqs.weight" in file.tensors:
        raise UnsupportedModel(
            f"{file.path} scales its rotary frequencies (`rope_freqs.weight`), which is not "
            "handled. Choose a model without rotary scaling."
        )


def _shortest(value: float) -> float:
    """The shortest decimal that is the same float32: 9.999999747378752e-06 -> 1e-05."""
    return float(str(np.float32(value)))


def hugging_face_name(name: str) -> str:
    """`blk.0.attn_q.weight` -> `model.layers.0.self_attn.q_proj.weight`; unknown names stay."""
    if not (match := re.fullmatch(r"(?:blk\.(\d+)\.)?(\w+)\.(weight|bias)", name)):
        return name
    block, tensor, kind = match.groups()
    if tensor not in _TENSORS:
        return name
    return (
        f"model.layers.{block}.{_TENSORS[tensor]}.{kind}" if block else f"{_TENSORS[tensor]}.{kind}"
    )


def _values(name: str, tensor: GGUFTensor, heads: Mapping[str, int]) -> np.ndarray:
    projection = name.split(".")[-2]
    values = tensor.values()
    return half_split(values, heads[projection]) if projection in heads else values


def half_split(rows: np.ndarray, heads: int) -> np.ndarray:
    """Reorder each head's rows from neighbours that rotate together to two halves that do.

    GGUF stores rotary pairs next to each other (0, K/2, 1, K/2 + 1, ...): for K = 4, file rows
    `a c b d` become `a b c d`. Queries and keys only, kernels and biases. Source: llama.cpp's
    converter.
    """
    pairs = rows.reshape(heads, len(rows) // heads // 2, 2, *rows.shape[1:])
    return np.ascontiguousarray(pairs.swapaxes(1, 2)).reshape(rows.shape)
