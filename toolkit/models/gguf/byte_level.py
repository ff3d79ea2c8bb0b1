"""Byte-level BPE of a GGUF file -> tokenizer.json.

Merges stand in the file; how text is split before merging is only named there
(`tokenizer.ggml.pre`), so each name needs its rule here. The rules are those of the tokenizer.json
of the model that the converter names for each; llama.cpp has the same ones, but normalises nothing.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from toolkit.errors import CheckpointError, UnsupportedModel
from toolkit.models.gguf.vocabulary import CONTROL, USER_DEFINED, Vocabulary, tokenizer_json

_BYTE_LEVEL: dict[str, Any] = {
    "type": "ByteLevel",
    "add_prefix_space": False,
    "trim_offsets": True,
    "use_regex": True,
}


def _sequence(*steps: dict[str, Any]) -> dict[str, Any]:
    return {"type": "Sequence", "pretokenizers": list(steps)}


def _split(pattern: str) -> dict[str, Any]:
    """Cut by a pattern of tiktoken's form, then turn bytes into characters."""
    cut = {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}
    return _sequence(cut, _BYTE_LEVEL | {"use_regex": False})


_SHORT = "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_WORD = r"[^\r\n\p{L}\p{N}]?\p{L}+"
_REST = r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_PREFIX = r"[^\r\n\p{L}\p{N}]?"
_UPPER, _LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
_SLASHED = r" ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"


def _cased(suffix: str, digits: str) -> str:
    """Words end where capitals begin; `suffix` is what a word may have behind it."""
    ends_low = f"{_PREFIX}{_UPPER}*{_LOWER}+{suffix}"
    begins_up = f"{_PREFIX}{_UPPER}+{_LOWER}*{suffix}"
    return f"{ends_low}|{begins_up}|{digits}|{_SLASHED}"


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Rule:
    """How text is split, and what else differs between models of one name and another."""

    split: dict[str, Any]
    normalizer: dict[str, Any] | None = None
    whole_words: bool = False
    """Whether a word that is a token is that token, whatever the merges say."""


_DIGITS = _sequence({"type": "Digits", "individual_digits": True}, _BYTE_LEVEL)
_NFC = {"type": "NFC"}
_GPT2, _SMOLLM = _Rule(split=_BYTE_LEVEL), _Rule(split=_DIGITS)
_NEOX = _Rule(split=_BYTE_LEVEL, normalizer=_NFC)
_LLAMA3 = _Rule(split=_split(rf"{_SHORT}|{_WORD}|\p{{N}}{{1,3}}|{_REST}"), whole_words=True)

RULES: Mapping[str, _Rule] = {
    "dbrx": dataclasses.replace(_LLAMA3, whole_words=False),
    "gpt-2": _GPT2,
    "gpt-4o": _Rule(split=_split(_cased(f"{_SHORT}?", r"\p{N}{1,3}"))),
    "llama-bpe": _LLAMA3,
    "llama-v3": _LLAMA3,
    "llama3": _LLAMA3,
    "mpt": _NEOX,
    "olmo": _NEOX,
    "qwen2": _Rule(split=_split(rf"{_SHORT}|{_WORD}|\p{{N}}|{_REST}"), normalizer=_NFC),
    "refact": _SMOLLM,
    "smaug-bpe": _LLAMA3,
    "smollm": _SMOLLM,
    "starcoder": _SMOLLM,
    "tekken": _Rule(split=_split(_cased("", r"\p{N}")), whole_words=True),
}
"""`tokenizer.ggml.pre` -> its rule."""

BEGINS = frozenset({"llama-bpe", "llama-v3", "llama3", "tekken"})
"""Names under which a text begins with BOS where the file does not say."""


def byte_level(vocabulary: Vocabulary, pre: str) -> dict[str, Any]:
    """tokenizer.json without a post-processor. Raises UnsupportedModel for an unknown `pre`,
    CheckpointError without merges."""
    if pre not in RULES:
        raise UnsupportedModel(
            f"`tokenizer.ggml.pre` {pre!r} is not handled (handled: {', '.join(RULES)}). "
            "Use the model's Hugging Face folder, which carries its own tokenizer.json."
        )
    if vocabulary.merges is None:
        raise CheckpointError("The GGUF file has no `tokenizer.ggml.merges`. Convert it again.")
    rule = RULES[pre]
    return tokenizer_json(
        added=vocabulary.added(CONTROL, USER_DEFINED),
        normalizer=rule.normalizer,
        pre_tokenizer=rule.split,
        decoder=_BYTE_LEVEL,
        model={
            "ignore_merges": rule.whole_words,
            "vocab": vocabulary.ids(),
            "merges": list(vocabulary.merges),
        },
    )
