"""The vocabulary inside a GGUF file -> tokenizer.json and tokenizer_config.json.

Byte-level BPE only: tokens, merges and token types stand in the file; how text is split before
merging is only named there (`tokenizer.ggml.pre`), so each name needs its rule here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from toolkit.errors import CheckpointError, UnsupportedModel
from toolkit.models.families.attributes import Attributes

_CONTROL, _USER_DEFINED = 3, 4
"""gguf.TokenType: tokens that the text is cut at before anything else."""

_BYTE_LEVEL = {
    "type": "ByteLevel",
    "add_prefix_space": False,
    "trim_offsets": True,
    "use_regex": True,
}
_PRE_TOKENIZERS: Mapping[str, Any] = {
    "gpt-2": _BYTE_LEVEL,
    "smollm": {
        "type": "Sequence",
        "pretokenizers": [{"type": "Digits", "individual_digits": True}, _BYTE_LEVEL],
    },
}

_HARMLESS = (
    "add_sep_token",
    "cls_token_id",
    "eom_token_id",
    "eot_token_id",
    "fim_mid_token_id",
    "fim_pad_token_id",
    "fim_pre_token_id",
    "fim_rep_token_id",
    "fim_sep_token_id",
    "fim_suf_token_id",
    "mask_token_id",
    "middle_token_id",
    "prefix_token_id",
    "scores",
    "seperator_token_id",
    "suffix_token_id",
    "token_type_count",
)
"""Fields that do not change how text becomes tokens ("seperator" is how the format spells it)."""


def tokenizer_files(fields: Mapping[str, Any], *, context: int) -> dict[str, dict[str, Any]]:
    """File name -> contents; none for a file without a vocabulary.

    Raises UnsupportedModel for another kind of tokenizer or an unknown splitting rule,
    CheckpointError for a vocabulary that contradicts itself.
    """
    prefix = "tokenizer.ggml."
    own = {n.removeprefix(prefix): v for n, v in fields.items() if n.startswith(prefix)}
    if own.get("model") in (None, "none", "no_vocab"):
        return {}
    a = Attributes(own, family="llama", source="the GGUF file", within=prefix)
    a.expect("model", "gpt2")
    a.expect("add_space_prefix", False)
    a.expect("add_eos_token", False)
    a.expect("remove_extra_whitespaces", False)
    pre = a.take("pre", "default")
    if pre not in _PRE_TOKENIZERS:
        raise UnsupportedModel(
            f"`tokenizer.ggml.pre` {pre!r} is not handled (handled: {', '.join(_PRE_TOKENIZERS)}). "
            "Use the model's Hugging Face folder, which carries its own tokenizer.json."
        )
    tokens, merges = a.take("tokens"), a.take("merges")
    types = a.take("token_type", [1] * len(tokens))
    named = {
        name: _token(tokens, a.take(f"{field}_token_id", None)) for name, field in _NAMED.items()
    }
    add_bos = a.flag("add_bos_token", False)
    a.done(_HARMLESS)
    _check(tokens, types)
    tokenizer = _tokenizer(tokens, types, merges, _PRE_TOKENIZERS[pre])
    if add_bos and named["bos_token"]:
        tokenizer["post_processor"] = _begin_with(named["bos_token"], tokens)
    config = {
        **{name: token for name, token in named.items() if token is not None},
        "add_bos_token": add_bos,
        "add_prefix_space": False,
        "clean_up_tokenization_spaces": False,
        "model_max_length": context,
        "tokenizer_class": "PreTrainedTokenizerFast",
    }
    if template := fields.get("tokenizer.chat_template"):
        config["chat_template"] = template
    return {"tokenizer.json": tokenizer, "tokenizer_config.json": config}


_NAMED = {
    "bos_token": "bos",
    "eos_token": "eos",
    "unk_token": "unknown",
    "pad_token": "padding",
}
"""Name in tokenizer_config.json -> field of the file, without `_token_id`."""


def special_ids(fields: Mapping[str, Any]) -> dict[str, int]:
    """`bos_token_id`, `eos_token_id` and `pad_token_id`, as far as the file gives them."""
    ids = {
        f"{name}_id": fields.get(f"tokenizer.ggml.{field}_token_id")
        for name, field in _NAMED.items()
        if name != "unk_token"
    }
    return {name: value for name, value in ids.items() if value is not None}


def _token(tokens: Sequence[str], number: int | None) -> str | None:
    if number is not None and number >= len(tokens):
        raise CheckpointError(
            f"The GGUF file names token {number} of a vocabulary of {len(tokens)}. Fetch it again."
        )
    return None if number is None else tokens[number]


def _check(tokens: Sequence[str], types: Sequence[int]) -> None:
    if len(types) != len(tokens):
        raise CheckpointError(
            f"The GGUF file has {len(tokens)} tokens and {len(types)} token types. Fetch it again."
        )
    if len(set(tokens)) != len(tokens):
        raise CheckpointError("The GGUF file lists a token twice. Convert the model again.")


def _tokenizer(
    tokens: Sequence[str], types: Sequence[int], merges: Sequence[str], pre_tokenizer: Any
) -> dict[str, Any]:
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [
            _added(number, token, special=kind == _CONTROL)
            for number, (token, kind) in enumerate(zip(tokens, types, strict=True))
            if kind in (_CONTROL, _USER_DEFINED)
        ],
        "normalizer": None,
        "pre_tokenizer": pre_tokenizer,
        "post_processor": None,
        "decoder": _BYTE_LEVEL,
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": False,
            "vocab": {token: number for number, token in enumerate(tokens)},
            "merges": list(merges),
        },
    }


def _added(number: int, token: str, *, special: bool) -> dict[str, Any]:
    return {
        "id": number,
        "content": token,
        "single_word": False,
        "lstrip": False,
        "rstrip": False,
        "normalized": False,
        "special": special,
    }


def _begin_with(token: str, tokens: Sequence[str]) -> dict[str, Any]:
    """The post-processor that puts one token in front of every text."""
    first, text, second = (
        {"SpecialToken": {"id": token, "type_id": 0}},
        {"Sequence": {"id": "A", "type_id": 0}},
        {"Sequence": {"id": "B", "type_id": 1}},
    )
    number = tokens.index(token)
    return {
        "type": "TemplateProcessing",
        "single": [first, text],
        "pair": [first, text, second],
        "special_tokens": {token: {"id": token, "ids": [number], "tokens": [token]}},
    }
