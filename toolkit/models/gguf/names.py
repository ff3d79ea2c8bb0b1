"""Tensors of a GGUF file: which of the family's they are, and what the converter did to them.

A file's tensor is one of the family's, or all experts' together. Its numbers may stand in another
order or have 1 added: `undo` gives them back. Source: conversion/*.py of llama.cpp and
gguf/tensor_mapping.py.
"""

from __future__ import annotations

import dataclasses
import functools
import re
from collections.abc import Callable, Iterator, Mapping

import numpy as np

from toolkit.models.gguf.reader import GGUFTensor

Change = Callable[[np.ndarray], np.ndarray]

_OUTSIDE = {
    "token_embd": "model.embed_tokens",
    "output_norm": "model.norm",
    "output": "lm_head",
}
_LLAMA = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_q_norm": "self_attn.q_norm",
    "attn_k_norm": "self_attn.k_norm",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
_FOUR_NORMS = {
    "post_attention_norm": "post_attention_layernorm",
    "ffn_norm": "pre_feedforward_layernorm",
    "post_ffw_norm": "post_feedforward_layernorm",
}
_MIXTRAL = {
    "ffn_gate_inp": "block_sparse_moe.gate",
    "ffn_gate_exps": "block_sparse_moe.experts.{}.w1",
    "ffn_down_exps": "block_sparse_moe.experts.{}.w2",
    "ffn_up_exps": "block_sparse_moe.experts.{}.w3",
}
_QWEN3_MOE = {
    "ffn_gate_inp": "mlp.gate",
    "ffn_gate_exps": "mlp.experts.{}.gate_proj",
    "ffn_down_exps": "mlp.experts.{}.down_proj",
    "ffn_up_exps": "mlp.experts.{}.up_proj",
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Names:
    """The tensors of one family, in the file -> in Hugging Face's form, without `.weight`."""

    outside: Mapping[str, str] = dataclasses.field(default_factory=lambda: _OUTSIDE)
    block: Mapping[str, str] = dataclasses.field(default_factory=lambda: _LLAMA)
    layer: str = "model.layers"

    def full(self, name: str) -> str:
        """`blk.0.attn_q.weight` -> `model.layers.0.self_attn.q_proj.weight`; unknown names stay."""
        if not (match := re.fullmatch(r"(?:blk\.(\d+)\.)?([\w.]+)\.(weight|bias)", name)):
            return name
        number, tensor, kind = match.groups()
        if number is None:
            return f"{self.outside[tensor]}.{kind}" if tensor in self.outside else name
        expert = re.fullmatch(r"(\w+)\.(\d+)", tensor)  # the first files had one for each expert
        tensor, index = (f"{expert[1]}_exps", expert[2]) if expert else (tensor, "{}")
        if tensor not in self.block:
            return name
        return f"{self.layer}.{number}.{self.block[tensor]}.{kind}".replace("{}", index)


NAMES: Mapping[str, Names] = {
    **dict.fromkeys(("llama", "qwen2", "qwen3", "smollm3"), Names()),
    "gemma2": Names(block=_LLAMA | _FOUR_NORMS),
    "gemma3_text": Names(block=_LLAMA | _FOUR_NORMS),
    "gpt2": Names(
        outside={
            "token_embd": "transformer.wte",
            "position_embd": "transformer.wpe",
            "output_norm": "transformer.ln_f",
            "output": "lm_head",
        },
        block={
            "attn_norm": "ln_1",
            "attn_qkv": "attn.c_attn",
            "attn_output": "attn.c_proj",
            "ffn_norm": "ln_2",
            "ffn_up": "mlp.c_fc",
            "ffn_down": "mlp.c_proj",
        },
        layer="transformer.h",
    ),
    "gpt_neox": Names(
        outside={
            "token_embd": "gpt_neox.embed_in",
            "output_norm": "gpt_neox.final_layer_norm",
            "output": "embed_out",
        },
        block={
            "attn_norm": "input_layernorm",
            "attn_qkv": "attention.query_key_value",
            "attn_output": "attention.dense",
            "ffn_norm": "post_attention_layernorm",
            "ffn_up": "mlp.dense_h_to_4h",
            "ffn_down": "mlp.dense_4h_to_h",
        },
        layer="gpt_neox.layers",
    ),
    "mixtral": Names(block=_LLAMA | _MIXTRAL),
    "olmo2": Names(
        block={
            **{k: v for k, v in _LLAMA.items() if k not in ("attn_norm", "ffn_norm")},
            "post_attention_norm": "post_attention_layernorm",
            "post_ffw_norm": "post_feedforward_layernorm",
        }
    ),
    "phi3": Names(block=_LLAMA | {"attn_qkv": "self_attn.qkv_proj", "ffn_up": "mlp.gate_up_proj"}),
    "qwen3_moe": Names(block=_LLAMA | _QWEN3_MOE),
}
"""`model_type` -> how its files name tensors."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Source:
    """Where the numbers of one of the family's tensors come from."""

    tensor: GGUFTensor
    expert: int | None = None
    undo: Change | None = None
    transposed: bool = False

    @property
    def shape(self) -> tuple[int, ...]:
        """As the family has it."""
        shape = self.tensor.shape if self.expert is None else self.tensor.shape[1:]
        return shape[::-1] if self.transposed else shape

    def values(self) -> np.ndarray:
        """The numbers as the family has them, float32."""
        values = self.tensor.values(self.expert)
        values = values.T if self.transposed else values
        return values if self.undo is None else self.undo(values)


def sources(
    kind: str, tensors: Mapping[str, GGUFTensor], *, heads: int, kv_heads: int
) -> dict[str, Source]:
    """Name in Hugging Face's form -> where its numbers come from. Unknown names stay as they
    are."""
    made = {}
    for name, tensor in tensors.items():
        full = NAMES[kind].full(name)
        undo = _undo(kind, full, heads, kv_heads)
        for one, expert in _experts(full, tensor):
            transposed = kind == "gpt2" and bool(_CONV1D.search(one))
            made[one] = Source(tensor=tensor, expert=expert, undo=undo, transposed=transposed)
    return made


_CONV1D = re.compile(r"\.(c_attn|c_proj|c_fc)\.weight$")
_NORM = re.compile(r"norm\.weight$")
_QUERY_KEY = re.compile(r"\.(q|k)_proj\.(weight|bias)$")


def _experts(full: str, tensor: GGUFTensor) -> Iterator[tuple[str, int | None]]:
    if "{}" not in full:
        yield full, None
        return
    for number in range(tensor.shape[0]):
        yield full.replace("{}", str(number)), number


def _undo(kind: str, name: str, heads: int, kv_heads: int) -> Change | None:
    if kind in ("llama", "mixtral", "smollm3") and (match := _QUERY_KEY.search(name)):
        return functools.partial(half_split, heads=heads if match[1] == "q" else kv_heads)
    if kind.startswith("gemma") and _NORM.search(name):
        return less_one
    if kind == "gpt_neox" and ".query_key_value." in name:
        return functools.partial(head_by_head, heads=heads)
    return None


def half_split(rows: np.ndarray, heads: int) -> np.ndarray:
    """Reorder each head's rows from neighbours that rotate together to two halves that do.

    GGUF stores rotary pairs next to each other (0, K/2, 1, K/2 + 1, ...): for K = 4, file rows
    `a c b d` become `a b c d`. Queries and keys of Llama only, kernels and biases.
    """
    pairs = rows.reshape(heads, len(rows) // heads // 2, 2, *rows.shape[1:])
    return np.ascontiguousarray(pairs.swapaxes(1, 2)).reshape(rows.shape)


def head_by_head(rows: np.ndarray, heads: int) -> np.ndarray:
    """Rows q0 q1 ... k0 k1 ... v0 v1 ..., K each, as q0 k0 v0 q1 k1 v1 ...: `[3 D, ...]`."""
    apart = rows.reshape(3, heads, -1, *rows.shape[1:])
    return np.ascontiguousarray(apart.swapaxes(0, 1)).reshape(rows.shape)


def less_one(scale: np.ndarray) -> np.ndarray:
    """Gemma's scales without the 1 that the converter adds and the family adds again."""
    return scale - np.float32(1)
