"""The `tokenizers` object of a checkpoint folder."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from tokenizers import AddedToken
from tokenizers import Tokenizer as Backend

from toolkit.completion.text.special import read_optional
from toolkit.errors import CheckpointError, UnsupportedModel

FAST_FILE = "tokenizer.json"
SLOW_FILES = (
    "tokenizer.model",
    "spiece.model",
    "sentencepiece.bpe.model",
    "vocab.json",
    "tekken.json",
)
_FLAGS = ("single_word", "lstrip", "rstrip", "normalized", "special")


def tokenizer_file(folder: Path) -> Path | None:
    """The file that defines the tokenizer, or None."""
    paths = (folder / name for name in (FAST_FILE, *SLOW_FILES))
    return next((path for path in paths if path.is_file()), None)


def load_backend(folder: Path) -> Backend | None:
    """The tokenizer of a folder; None where there is no tokenizer file.

    tokenizer.json is the law. Only where it is missing are older files converted, with
    transformers. Raises `CheckpointError` for a damaged file, `UnsupportedModel` for one that
    cannot be converted.
    """
    path = tokenizer_file(folder)
    if path is None:
        return None
    backend = _read_fast(path) if path.name == FAST_FILE else _convert(folder, path)
    _add_declared_tokens(backend, read_optional(folder, "tokenizer_config.json"))
    backend.no_truncation()  # both may be set in the file, and would drop or invent tokens
    backend.no_padding()
    return backend


def without_prefix_space(backend: Backend) -> Backend:
    """A copy that does not put a space in front of a text, for texts that stand after a mark."""
    state = json.loads(backend.to_str())
    _drop_prefix_space(state, "normalizer", "normalizers")
    _drop_prefix_space(state, "pre_tokenizer", "pretokenizers")
    return Backend.from_str(json.dumps(state))


def _read_fast(path: Path) -> Backend:
    try:
        return Backend.from_file(str(path))
    except Exception as error:  # the library raises the bare class
        raise CheckpointError(f"{path} cannot be read ({error}). Fetch the file again.") from error


def _convert(folder: Path, path: Path) -> Backend:
    way_out = "Put a tokenizer.json beside it, or remove it and use token ids."
    if path.suffix == ".model" and find_spec("sentencepiece") is None:
        raise UnsupportedModel(
            f"{path} cannot be converted: install the package sentencepiece. Or: {way_out}"
        )
    from transformers import AutoTokenizer  # seconds of import, for old files only

    try:
        converted = AutoTokenizer.from_pretrained(str(folder), local_files_only=True)
    except Exception as error:  # each tokenizer class fails in its own way
        raise UnsupportedModel(f"{path} cannot be converted: {error}. {way_out}") from error
    backend = getattr(converted, "backend_tokenizer", None)
    if backend is None:
        kind = type(converted).__name__
        raise UnsupportedModel(f"{path} cannot be converted: {kind} has no fast form. {way_out}")
    return backend


def _add_declared_tokens(backend: Backend, settings: dict[str, Any]) -> None:
    """Tokens that only tokenizer_config.json declares, in the order of their ids.

    Raises `CheckpointError` when one would not get the id that is declared for it.
    """
    known = {entry.content for entry in backend.get_added_tokens_decoder().values()}
    declared = settings.get("added_tokens_decoder", {}).items()
    for token, entry in sorted((int(key), entry) for key, entry in declared):
        content = entry["content"]
        if content in known:
            continue
        flags = {flag: entry.get(flag, False) for flag in _FLAGS}
        backend.add_tokens([AddedToken(content, **flags)])
        if (given := backend.token_to_id(content)) != token:
            raise CheckpointError(
                f"tokenizer_config.json declares {content!r} as id {token}, but the tokenizer "
                f"gives it {given}: the files do not belong together. Fetch both from one revision."
            )


def _drop_prefix_space(state: dict[str, Any], slot: str, parts: str) -> None:
    step = state[slot]
    if step is None:
        return
    steps = step[parts] if step["type"] == "Sequence" else [step]
    kept = [_plain(part) for part in steps if part["type"] != "Prepend"]
    state[slot] = {"type": "Sequence", parts: kept} if kept else None


def _plain(step: dict[str, Any]) -> dict[str, Any]:
    if step["type"] == "Metaspace":
        return step | {"prepend_scheme": "never"}
    return step | {"add_prefix_space": False} if step["type"] == "ByteLevel" else step
