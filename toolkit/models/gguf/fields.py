"""What the fields of most architectures say: sizes, epsilon, rotary embedding, windows."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from toolkit.errors import CheckpointError, UnsupportedModel
from toolkit.models.families.attributes import Attributes
from toolkit.models.gguf.reader import GGUFFile


class Sizes(NamedTuple):
    """The sizes of one file, in features, heads, layers and tokens."""

    vocabulary: int
    width: int
    mlp_width: int
    layers: int
    heads: int
    kv_heads: int
    head_width: int
    context: int


def read_sizes(a: Attributes, file: GGUFFile) -> Sizes:
    """The sizes, those that are silent as llama.cpp takes them. Raises CheckpointError,
    UnsupportedModel."""
    width, heads = a.integer("embedding_length"), a.integer("attention.head_count")
    head_width = a.integer("attention.key_length", max(width // heads, 1))
    a.expect("attention.value_length", head_width)
    embedding = file.tensors.get("token_embd.weight")
    rows = embedding.shape[0] if embedding is not None else 1
    a.expect("vocab_size", rows)
    return Sizes(
        vocabulary=rows,
        width=width,
        mlp_width=a.integer("feed_forward_length"),
        layers=a.integer("block_count"),
        heads=heads,
        kv_heads=a.integer("attention.head_count_kv", heads),
        head_width=head_width,
        context=a.integer("context_length"),
    )


def turned(a: Attributes, file: GGUFFile, sizes: Sizes) -> dict[str, Any]:
    """`rope_theta` and `rope_scaling` of a family that turns whole heads."""
    a.expect("rope.dimension_count", sizes.head_width)
    return {"rope_theta": base(a), **_scaling(a, file, sizes)}


def base(a: Attributes, name: str = "rope.freq_base") -> float:
    """A base of the rotary embedding; llama.cpp's own where the file is silent."""
    return shortest(a.number(name, 10_000.0))


def _scaling(a: Attributes, file: GGUFFile, sizes: Sizes) -> dict[str, Any]:
    """How the frequencies are scaled: by a factor, by YaRN, or each by its own divisor.

    Divisors are Llama 3's, worked out by the converter. LongRoPE with the same ones for short and
    for long prompts says that exactly.
    """
    way = a.choice("rope.scaling.type", ("none", "linear", "yarn")) or "none"
    divisors = file.tensors.get("rope_freqs.weight")
    found = None if divisors is None else [shortest(x) for x in divisors.values().tolist()]
    if found and set(found) != {1.0}:
        a.refuse_unless("rope.scaling.type", way, ("none",))
        same = {"short_factor": found, "long_factor": found}
        context = {"original_max_position_embeddings": sizes.context}
        return {
            "rope_scaling": {"rope_type": "longrope", **same, "attention_factor": 1.0} | context
        }
    if way == "none":
        a.expect("rope.scaling.factor", 1.0)
        return {}
    made: dict[str, Any] = {"rope_type": way, "factor": shortest(a.number("rope.scaling.factor"))}
    return {"rope_scaling": made | (_yarn(a) if way == "yarn" else {})}


def _yarn(a: Attributes) -> dict[str, Any]:
    a.expect("rope.scaling.yarn_ext_factor", 1.0)
    made: dict[str, Any] = {
        "original_max_position_embeddings": a.integer("rope.scaling.original_context_length")
    }
    for name, ours in _YARN.items():
        if a.has(name):
            made[ours] = shortest(a.number(name))
    return made


_YARN = {
    "rope.scaling.yarn_attn_factor": "attention_factor",
    "rope.scaling.yarn_beta_fast": "beta_fast",
    "rope.scaling.yarn_beta_slow": "beta_slow",
}


def long_rope(a: Attributes, file: GGUFFile) -> dict[str, Any]:
    """`rope_scaling` of a file with two lists of divisors, for short and for long prompts."""
    short, long = (file.tensors.get(f"rope_factors_{n}.weight") for n in ("short", "long"))
    if short is None and long is None:
        a.expect("rope.scaling.type", "none")
        a.expect("rope.scaling.attn_factor", 1.0)
        return {}
    if short is None or long is None:
        raise CheckpointError(
            f"{file.path} has only one of `rope_factors_short.weight` and "
            "`rope_factors_long.weight`. Fetch or convert it again."
        )
    a.expect("rope.scaling.type", "longrope")
    return {
        "rope_scaling": {
            "rope_type": "longrope",
            "short_factor": [shortest(x) for x in short.values().tolist()],
            "long_factor": [shortest(x) for x in long.values().tolist()],
            "attention_factor": a.number("rope.scaling.attn_factor", 1.0),
        }
    }


def share(a: Attributes, sizes: Sizes) -> float:
    """The share of a head's features that turns, such that share times width gives the number
    again."""
    turning = a.integer("rope.dimension_count", sizes.head_width)
    found = turning / sizes.head_width
    return found if int(found * sizes.head_width) == turning else math.nextafter(found, 2)


def layer_types(a: Attributes, file: GGUFFile, sizes: Sizes, *, period: int) -> list[str]:
    """Which layers slide: those that the file lists, or all but each `period`-th."""
    name = "attention.sliding_window_pattern"
    slides = a.take(name, period)
    if type(slides) is int and slides > 0:
        slides = [(i + 1) % slides != 0 for i in range(sizes.layers)]
    if not isinstance(slides, list) or len(slides) != sizes.layers:
        raise CheckpointError(
            f"`{name}` in {file.path} must be a number of layers, or true or false for each of "
            f"{sizes.layers}, got {slides!r:.80}. Fetch or convert it again."
        )
    return ["sliding_attention" if slide else "full_attention" for slide in slides]


def attention_scalar(a: Attributes, sizes: Sizes, *, by_width: int) -> float:
    """Gemma's `query_pre_attn_scalar`: the head width, but for the model of `by_width` layers, as
    llama.cpp builds it in; the file's own scale where it has one."""
    if a.has("attention.scale"):
        scalar = a.number("attention.scale") ** -2
        whole = round(scalar)
        return whole if math.isclose(scalar, whole, rel_tol=1e-6) else scalar
    return sizes.width // sizes.heads if sizes.layers == by_width else sizes.head_width


def optional(a: Attributes, name: str) -> float | None:
    """A number, or None where the file is silent."""
    return shortest(a.number(name)) if a.has(name) else None


def count(a: Attributes, name: str) -> int:
    """A whole number; 0 where the file is silent or says so."""
    value = a.take(name, 0)
    if type(value) is not int or value < 0:
        raise CheckpointError(f"`{name}` in {a.source} must be a whole number, got {value!r}.")
    return value


def has_tensor(file: GGUFFile, name: str) -> bool:
    """Whether the first layer has a tensor of this name."""
    return f"blk.0.{name}" in file.tensors


def shortest(value: float) -> float:
    """The shortest decimal that is the same float32: 9.999999747378752e-06 -> 1e-05."""
    return float(str(np.float32(value)))


def refuse_other_kinds(fields: Mapping[str, Any], path: Any) -> None:
    """Raise UnsupportedModel for an adapter, a projector, or one part of several."""
    for name, handled in (("general.type", "model"), ("split.count", 1)):
        if (found := fields.get(name, handled)) != handled:
            raise UnsupportedModel(
                f"`{name}` {found!r} in {path} is not handled (handled: {handled!r}). Use the "
                "model's Hugging Face folder, or a whole model in one file (`llama-gguf-split "
                "--merge` joins parts)."
            )
