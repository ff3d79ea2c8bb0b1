"""How a vocabulary spells bytes: from the string of a token to the bytes that it stands for."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from tokenizers import Tokenizer as Backend

from toolkit.errors import UnsupportedModel

_BYTE_TOKEN = re.compile(r"<0x([0-9A-Fa-f]{2})>")
_KEEPS_EVERY_CHARACTER = frozenset({"ByteLevel", "Digits", "Metaspace", "Split", "UnicodeScripts"})


def byte_alphabet() -> dict[str, int]:
    """The 256 printable characters that stand for the bytes in a byte-level vocabulary.

    A byte that is printable in Latin-1 stands for itself; the others take the characters from
    U+0100 on, in order. Source: the encoder of GPT-2.
    """
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    rest = sorted(set(range(256)) - set(printable))
    return {chr(b): b for b in printable} | {chr(0x100 + i): b for i, b in enumerate(rest)}


_ALPHABET = byte_alphabet()


@dataclass(frozen=True, kw_only=True)
class Spelling:
    """The rule of one vocabulary.

    `byte_level`: each character stands for a byte (`Ġ` is a space). `byte_fallback`: `<0x0A>` is
    one byte. `replacements`: strings that stand for others (`▁` for a space).
    """

    byte_level: bool = False
    byte_fallback: bool = False
    replacements: tuple[tuple[str, str], ...] = ()

    def read(self, token: str) -> bytes:
        """The bytes of an ordinary token."""
        if self.byte_level and all(char in _ALPHABET for char in token):
            return bytes(_ALPHABET[char] for char in token)
        if self.byte_fallback and (found := _BYTE_TOKEN.fullmatch(token)):
            return bytes.fromhex(found[1])
        for old, new in self.replacements:
            token = token.replace(old, new)
        return token.encode()


def spelling_of(backend: Backend) -> Spelling:
    """The rule that a tokenizer decodes by.

    Only steps that work on each token alone are accepted. The last step of SentencePiece
    vocabularies, which strips the space in front of a whole text, is left out on purpose: a
    completion continues a text. Raises `UnsupportedModel` for a decoder whose tokens have no bytes
    of their own (WordPiece, CTC ...).
    """
    steps = list(_steps(backend.decoder))
    names = [step["type"] for step in steps]
    if not steps:
        return _spelling_without_decoder(backend)
    for i, step in enumerate(steps):
        if not _is_local(step, fused="Fuse" in names[:i]):
            raise UnsupportedModel(_refusal(f"decoder step {json.dumps(step)}"))
    return Spelling(
        byte_level="ByteLevel" in names,
        byte_fallback="ByteFallback" in names or getattr(backend.model, "byte_fallback", False),
        replacements=tuple(pair for step in steps for pair in _replacement(step)),
    )


def _is_local(step: dict[str, Any], *, fused: bool) -> bool:
    if step["type"] == "Replace":
        return "String" in step["pattern"]
    if step["type"] == "Strip":
        return fused  # of the whole text; before the fusion it would strip each token
    return step["type"] in {"ByteLevel", "ByteFallback", "Metaspace", "Fuse"}


def _replacement(step: dict[str, Any]) -> Iterator[tuple[str, str]]:
    if step["type"] == "Replace":
        yield step["pattern"]["String"], step["content"]
    if step["type"] == "Metaspace":
        yield step["replacement"], " "


def _spelling_without_decoder(backend: Backend) -> Spelling:
    """No decoder: the pre-tokenizer tells how text became tokens, and must have kept all of it."""
    steps = list(_steps(backend.pre_tokenizer))
    for step in steps:
        if step["type"] not in _KEEPS_EVERY_CHARACTER or step.get("behavior") == "Removed":
            raise UnsupportedModel(_refusal(f"pre-tokenizer {step['type']!r} and no decoder"))
    if getattr(backend.model, "end_of_word_suffix", None):
        raise UnsupportedModel(_refusal("end-of-word suffix and no decoder"))
    return Spelling(
        byte_level=any(step["type"] == "ByteLevel" for step in steps),
        replacements=tuple(pair for step in steps for pair in _replacement(step)),
    )


def _steps(component: Any) -> Iterator[dict[str, Any]]:
    """A decoder or pre-tokenizer as its JSON, with sequences unrolled."""
    if component is not None:
        yield from _unroll(json.loads(component.__getstate__()))


def _unroll(step: dict[str, Any]) -> Iterator[dict[str, Any]]:
    if step["type"] != "Sequence":
        yield step
        return
    for inner in step.get("decoders") or step.get("pretokenizers") or ():
        yield from _unroll(inner)


def _refusal(what: str) -> str:
    return (
        f"The tokenizer has the {what}: its tokens have no bytes of their own, so texts, offsets "
        "and guided choices would be guesses. Byte-level BPE and SentencePiece vocabularies are "
        "supported; with any other, remove the tokenizer files and use token ids."
    )
