"""Tokens with a meaning of their own, as the files of a checkpoint declare them."""

from __future__ import annotations

import string
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer as Backend

from toolkit.models.jsonfile import read_json

_FIM_SPELLINGS = (  # prefix, suffix, middle
    ("<fim_prefix>", "<fim_suffix>", "<fim_middle>"),  # StarCoder, Granite, StableCode
    ("<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>"),  # Qwen, CodeGemma
    ("<fim-prefix>", "<fim-suffix>", "<fim-middle>"),  # SantaCoder
    # DeepSeek, with fullwidth bars; the hole stands where the suffix begins.
    ("<\uff5cfim▁begin\uff5c>", "<\uff5cfim▁hole\uff5c>", "<\uff5cfim▁end\uff5c>"),
    ("▁<PRE>", "▁<SUF>", "▁<MID>"),  # CodeLlama
    ("<PRE>", "<SUF>", "<MID>"),
)


@dataclass(frozen=True, kw_only=True)
class Fim:
    """The marks for filling in the middle, and the order of the three parts of such a prompt."""

    prefix_id: int
    suffix_id: int
    middle_id: int
    order: tuple[str, ...] = ("prefix", "suffix", "middle")


@dataclass(frozen=True, kw_only=True)
class Specials:
    """Which ids mean what.

    `prefix_ids` is what the tokenizer puts in front of a text (usually the BOS id or nothing).
    `start_id` alone stands for the start of a document: BOS, else the separator of documents, else
    EOS. `special_ids` are shown by their surface string and carry no text of their own.
    """

    bos_id: int | None = None
    eos_ids: tuple[int, ...] = ()
    prefix_ids: tuple[int, ...] = ()
    start_id: int | None = None
    special_ids: frozenset[int] = frozenset()
    fim: Fim | None = None


def read_specials(folder: Path, backend: Backend | None, *, vocab_size: int) -> Specials:
    """What the files of a folder and its tokenizer declare.

    EOS: all of generation_config.json (else config.json), then tokenizer_config.json's. BOS:
    tokenizer_config.json's word is final, null included; else generation_config.json, then
    config.json. Ids outside the vocabulary are left out: the model can neither read nor draw them.
    What a tokenizer appends to a text is not used: a prompt goes on.
    """
    settings = _merged(folder, "special_tokens_map.json", "tokenizer_config.json")
    model = _merged(folder, "config.json", "generation_config.json")
    id_of = _ids_below(vocab_size, backend)
    declared = [*_as_list(model.get("eos_token_id")), settings.get("eos_token")]
    eos_ids = _distinct(map(id_of, declared))
    bos_id = id_of(settings.get("bos_token", model.get("bos_token_id")))
    return Specials(
        bos_id=bos_id,
        eos_ids=eos_ids,
        prefix_ids=_distinct(map(id_of, _prefix(settings.get("add_bos_token"), bos_id, backend))),
        start_id=_first(bos_id, id_of("<|endoftext|>"), *eos_ids),
        special_ids=frozenset(_distinct(map(id_of, [*_special(backend), bos_id, *eos_ids]))),
        fim=_find_fim(id_of),
    )


def read_optional(folder: Path, name: str) -> dict[str, Any]:
    """A JSON object of the checkpoint; {} without the file. Raises `CheckpointError` if damaged."""
    path = folder / name
    return read_json(path) if path.is_file() else {}


def _merged(folder: Path, *names: str) -> dict[str, Any]:
    """The members of several files; a later file wins."""
    return {key: value for name in names for key, value in read_optional(folder, name).items()}


def _ids_below(vocab_size: int, backend: Backend | None) -> Callable[[Any], int | None]:
    """A function from an id, a string or `{"content": ...}` to an id of the model, or None."""

    def id_of(value: Any) -> int | None:
        if isinstance(value, Mapping):
            value = value.get("content")
        if isinstance(value, str):
            value = backend.token_to_id(value) if backend else None
        return value if isinstance(value, int) and 0 <= value < vocab_size else None

    return id_of


def _prefix(
    add_bos: bool | None, bos_id: int | None, backend: Backend | None
) -> Sequence[int | None]:
    """An explicit `add_bos_token` wins; else what the post-processor puts in front of a text."""
    if backend is None or add_bos is False:
        return []
    if add_bos is True:
        return [bos_id]
    probe = backend.encode(string.printable, add_special_tokens=True)
    # Toy: <s> a b </s> has the mask 1 0 0 1; the prefix ends at the first 0.
    length = probe.special_tokens_mask.index(0) if 0 in probe.special_tokens_mask else 0
    return probe.ids[:length]


def _special(backend: Backend | None) -> list[int]:
    added = backend.get_added_tokens_decoder() if backend else {}
    return [token for token, entry in added.items() if entry.special]


def _find_fim(id_of: Callable[[Any], int | None]) -> Fim | None:
    for spelling in _FIM_SPELLINGS:
        prefix, suffix, middle = map(id_of, spelling)
        if prefix is not None and suffix is not None and middle is not None:
            return Fim(prefix_id=prefix, suffix_id=suffix, middle_id=middle)
    return None


def _as_list(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list) else [value]


def _distinct(ids: Iterable[int | None]) -> tuple[int, ...]:
    return tuple(dict.fromkeys(i for i in ids if i is not None))


def _first(*ids: int | None) -> int | None:
    return next((i for i in ids if i is not None), None)
