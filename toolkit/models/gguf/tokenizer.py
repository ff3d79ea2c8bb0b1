"""The vocabulary inside a GGUF file -> tokenizer.json and tokenizer_config.json.

Two kinds: byte-level BPE ("gpt2"), with merges in the file and a name for how text is split before
merging, and SentencePiece ("llama"), with scores in place of merges.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from toolkit.models.families.attributes import Attributes
from toolkit.models.gguf.byte_level import BEGINS, byte_level
from toolkit.models.gguf.sentencepiece import sentencepiece
from toolkit.models.gguf.vocabulary import UNKNOWN, Vocabulary

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
    "seperator_token_id",
    "suffix_token_id",
    "token_type_count",
)
"""Fields that do not change how text becomes tokens ("seperator" is how the format spells it)."""

_NAMED = {
    "bos_token": "bos",
    "eos_token": "eos",
    "unk_token": "unknown",
    "pad_token": "padding",
}
"""Name in tokenizer_config.json -> field of the file, without `_token_id`."""

_IDS = {"bos_token": ("bos",), "eos_token": ("eos", "eot", "eom"), "pad_token": ("padding",)}
"""Name in config.json, without `_id` -> fields of the file, without `_token_id`."""


def tokenizer_files(fields: Mapping[str, Any], *, context: int) -> dict[str, dict[str, Any]]:
    """File name -> contents; none for a file without a vocabulary.

    Raises UnsupportedModel for another kind of tokenizer or an unknown splitting rule,
    CheckpointError for a vocabulary that contradicts itself.
    """
    prefix = "tokenizer.ggml."
    own = {n.removeprefix(prefix): v for n, v in fields.items() if n.startswith(prefix)}
    if own.get("model") in (None, "none", "no_vocab"):
        return {}
    a = Attributes(own, family="GGUF", source="the GGUF file", within=prefix)
    pieces = a.choice("model", ("gpt2", "llama")) == "llama"
    a.expect("remove_extra_whitespaces", False)
    pre, space = a.take("pre", "default"), a.flag("add_space_prefix", pieces)
    begins = a.flag("add_bos_token", pieces or pre in BEGINS)
    ends = a.flag("add_eos_token", False)
    vocabulary = Vocabulary.read(a)
    named = {
        name: vocabulary.token(a.take(f"{field}_token_id", None)) for name, field in _NAMED.items()
    }
    a.done(_HARMLESS)
    if pieces:
        # Every converter writes "default" here: pieces are not split before they are joined.
        a.refuse_unless("pre", pre, ("default",))
        tokenizer = sentencepiece(
            vocabulary,
            space=space,
            unknown=named["unk_token"] or vocabulary.first(UNKNOWN),
            takes_space=fields.get("general.architecture") == "phi3",
        )
    else:
        a.refuse_unless("add_space_prefix", space, (False,))
        tokenizer = byte_level(vocabulary, pre)
    first, last = named["bos_token"] if begins else None, named["eos_token"] if ends else None
    if first or last:
        tokenizer["post_processor"] = _around(first, last, vocabulary)
    config = {
        **{name: token for name, token in named.items() if token is not None},
        "add_bos_token": begins,
        "add_prefix_space": space,
        "clean_up_tokenization_spaces": False,
        "model_max_length": context,
        "tokenizer_class": "PreTrainedTokenizerFast",
    }
    if template := fields.get("tokenizer.chat_template"):
        config["chat_template"] = template
    return {"tokenizer.json": tokenizer, "tokenizer_config.json": config}


def special_ids(fields: Mapping[str, Any]) -> dict[str, Any]:
    """`bos_token_id`, `eos_token_id` and `pad_token_id`, as far as the file gives them.

    What ends a turn or a message ends a completion too: several ids are a list.
    """
    made: dict[str, Any] = {}
    for name, spellings in _IDS.items():
        found = [fields.get(f"tokenizer.ggml.{spelling}_token_id") for spelling in spellings]
        ids = list(dict.fromkeys(token for token in found if token is not None))
        if ids:
            made[f"{name}_id"] = ids[0] if len(ids) == 1 else ids
    return made


def _around(first: str | None, last: str | None, vocabulary: Vocabulary) -> dict[str, Any]:
    """The post-processor that puts one token in front of every text, and one behind it."""

    def special(token: str | None, kind: int) -> list[dict[str, Any]]:
        return [] if token is None else [{"SpecialToken": {"id": token, "type_id": kind}}]

    def sequence(name: str, kind: int) -> dict[str, Any]:
        return {"Sequence": {"id": name, "type_id": kind}}

    single = [*special(first, 0), sequence("A", 0), *special(last, 0)]
    numbers = {token: vocabulary.tokens.index(token) for token in (first, last) if token}
    return {
        "type": "TemplateProcessing",
        "single": single,
        "pair": [*single, sequence("B", 1), *special(last, 1)],
        "special_tokens": {
            token: {"id": token, "ids": [number], "tokens": [token]}
            for token, number in numbers.items()
        },
    }
