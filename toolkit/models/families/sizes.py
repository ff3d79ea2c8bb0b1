"""What config.json of most families says in the words of Llama's: sizes, windows, harmless
things."""

from __future__ import annotations

from typing import Any, TypedDict

from toolkit.errors import CheckpointError
from toolkit.models.config import Layer, ModelConfig
from toolkit.models.families.attributes import Attributes

HARMLESS = frozenset(
    {
        "_attn_implementation_autoset",
        "_name_or_path",
        "attention_dropout",
        "auto_map",
        "bos_token_id",
        "cache_implementation",
        "dtype",
        "embd_pdrop",
        "eos_token_id",
        "hidden_dropout",
        "initializer_range",
        "output_router_logits",
        "pad_token_id",
        "resid_pdrop",
        "router_aux_loss_coef",
        "torch_dtype",
        "transformers.js_config",
        "transformers_version",
        "unsloth_fixed",
        "unsloth_version",
        "use_cache",
    }
)
"""Attributes that may say anything: they do not touch the logits of a token sequence. Dropout is
for training; `auto_map` names code that transformers has of its own today."""


class Sizes(TypedDict):
    """The fields of ModelConfig that every family has."""

    vocab_size: int
    width: int
    mlp_width: int
    layers: int
    heads: int
    kv_heads: int
    head_width: int
    context: int


def opened(raw: Any, *, family: str, architecture: str) -> Attributes:
    """The configuration, begun to be read: it is of this family and for predicting tokens."""
    a = Attributes(raw, family=family)
    a.expect("model_type", family)
    a.expect("architectures", [architecture])
    return a


def read_sizes(
    a: Attributes, *, context: int, head_width: int | None = None, kv_heads: int | None = None
) -> Sizes:
    """Sizes under Llama's names. `context`, `head_width` and `kv_heads` hold where it is silent;
    the last two as width / heads and as many as heads when they are None.

    Raises CheckpointError for sizes that do not divide each other.
    """
    width, heads = a.integer("hidden_size"), a.integer("num_attention_heads")
    made = Sizes(
        vocab_size=a.integer("vocab_size"),
        width=width,
        mlp_width=a.integer("intermediate_size"),
        layers=a.integer("num_hidden_layers"),
        heads=heads,
        kv_heads=a.integer("num_key_value_heads", kv_heads or heads),
        head_width=a.integer("head_dim", head_width or width // heads),
        context=a.integer("max_position_embeddings", context),
    )
    check_sizes(made)
    return made


def check_sizes(sizes: Sizes, *, turning: bool = True) -> None:
    """Raise CheckpointError for heads that cannot be shared, or not be turned where they are."""
    heads, kv_heads, head_width = sizes["heads"], sizes["kv_heads"], sizes["head_width"]
    if heads % kv_heads:
        raise CheckpointError(
            f"`num_attention_heads` in config.json must be a multiple of `num_key_value_heads`, "
            f"got {heads} and {kv_heads}."
        )
    if turning and head_width % 2:
        raise CheckpointError(
            f"The head width must be even for the rotary embedding, got {head_width} "
            "(`head_dim`, or `hidden_size` // `num_attention_heads`)."
        )


def check_experts(c: ModelConfig) -> None:
    """Raise CheckpointError if a token would go through more experts than there are."""
    if c.experts_used > c.experts:
        raise CheckpointError(
            f"`num_experts_per_tok` in config.json is {c.experts_used}, and there are {c.experts} "
            "experts. Fetch the model's own file again."
        )


def all_windowed(layers: int, window: int | None) -> tuple[Layer, ...]:
    """Every layer with the same sliding window, if there is one."""
    return () if window is None else (Layer(window=window),) * layers


def windowed(
    a: Attributes, layers: int, window: int | None, default: list[bool]
) -> list[int | None]:
    """The window of each layer, by `layer_types`, or by `default` where that is absent.

    Raises CheckpointError if a layer slides and there is no window.
    """
    types = a.listed("layer_types", layers, ("full_attention", "sliding_attention"))
    slides = default if types is None else [t == "sliding_attention" for t in types]
    if any(slides) and window is None:
        raise CheckpointError(
            f"`layer_types` in {a.source} has sliding windows and `sliding_window` has no length. "
            "Fetch the model's own file again."
        )
    return [window if slide else None for slide in slides]
