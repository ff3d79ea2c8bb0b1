"""A SentencePiece vocabulary of a GGUF file -> tokenizer.json.

The file has a score for each piece and no merges: SentencePiece joins the neighbours whose piece
has the best score. The same comes out of BPE with a merge for every two pieces that make a third,
in the order of the third's score; so Hugging Face converts these vocabularies, and so it is done
here. Source: transformers' convert_slow_tokenizer.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from toolkit.errors import CheckpointError, UnsupportedModel
from toolkit.models.gguf.vocabulary import (
    CONTROL,
    NORMAL,
    UNKNOWN,
    USER_DEFINED,
    Vocabulary,
    tokenizer_json,
)

_SPACE = "▁"
_BYTES = [f"<0x{byte:02X}>" for byte in range(256)]
_KEEPS_SPACE = frozenset({"<unk>", "<s>", "<|endoftext|>"})
"""Special tokens of Phi-3 that do not take the space after them."""


def sentencepiece(
    vocabulary: Vocabulary, *, space: bool, unknown: str | None, takes_space: bool = False
) -> dict[str, Any]:
    """tokenizer.json without a post-processor.

    `space`: whether one is put in front of a text, and behind each special token; `unknown`: the
    token for what has no piece; `takes_space`: whether special tokens take the space after them, as
    those of Phi-3 do. Raises CheckpointError for scores that are missing, UnsupportedModel for
    scores that say nothing.
    """
    vocabulary = _spaces_marked(vocabulary)

    def rstrip(token: str, kind: int) -> bool:
        return takes_space and token not in _KEEPS_SPACE and (kind == CONTROL or token == "</s>")

    ids = vocabulary.ids()
    prepend = [{"type": "Prepend", "prepend": _SPACE}] if space else []
    replace = {"type": "Replace", "pattern": {"String": " "}, "content": _SPACE}
    strip = [{"type": "Strip", "content": " ", "start": 1, "stop": 0}] if space else []
    back = {"type": "Replace", "pattern": {"String": _SPACE}, "content": " "}
    return tokenizer_json(
        added=vocabulary.added(UNKNOWN, CONTROL, USER_DEFINED, rstrip=rstrip),
        normalizer={"type": "Sequence", "normalizers": [*prepend, replace]},
        decoder={
            "type": "Sequence",
            "decoders": [back, {"type": "ByteFallback"}, {"type": "Fuse"}, *strip],
        },
        model={
            "unk_token": unknown,
            "fuse_unk": True,
            "byte_fallback": all(byte in ids for byte in _BYTES),
            "vocab": ids,
            "merges": _merges(vocabulary, ids),
        },
    )


def _spaces_marked(vocabulary: Vocabulary) -> Vocabulary:
    """Added tokens of nothing but spaces, as pieces: the converter writes `▁▁` as two spaces."""
    known = set(vocabulary.tokens)

    def marked(token: str, kind: int) -> str:
        piece = token.replace(" ", _SPACE)
        spaces = kind == USER_DEFINED and token and not token.strip(" ")
        return piece if spaces and piece not in known else token

    tokens = [marked(*both) for both in zip(vocabulary.tokens, vocabulary.types, strict=True)]
    return dataclasses.replace(vocabulary, tokens=tokens)


def _merges(vocabulary: Vocabulary, ids: Mapping[str, int]) -> list[str]:
    """Every two pieces that make a third, by the third's score, then by their lengths.

    Pieces that a user added score 0, the best, as in SentencePiece: the file has lost their score.
    """
    if vocabulary.merges is not None:
        return list(vocabulary.merges)
    found = [
        (score, len(left), len(right), f"{left} {right}")
        for piece, score in _scores(vocabulary).items()
        for left, right in _halves(piece, ids)
    ]
    found.sort(key=lambda merge: merge[:3], reverse=True)
    return [merge for *_, merge in found]


def _halves(piece: str, ids: Mapping[str, int]) -> list[tuple[str, str]]:
    """The two pieces that make one, in the order of their ids. None has a space: it stands for
    itself only in tokens that a text is cut at."""
    cuts = [] if " " in piece else [(piece[:i], piece[i:]) for i in range(1, len(piece))]
    both = [(left, right) for left, right in cuts if left in ids and right in ids]
    return sorted(both, key=lambda cut: (ids[cut[0]], ids[cut[1]]))


def _scores(vocabulary: Vocabulary) -> dict[str, float]:
    """Piece -> score, of pieces that text is made of."""
    if len(vocabulary.scores) != len(vocabulary.tokens):
        raise CheckpointError(
            f"The GGUF file has {len(vocabulary.tokens)} tokens and {len(vocabulary.scores)} "
            "scores. Fetch it again."
        )
    every = zip(vocabulary.tokens, vocabulary.types, vocabulary.scores, strict=True)
    found = {
        token: 0.0 if kind == USER_DEFINED else score
        for token, kind, score in every
        if kind in (NORMAL, USER_DEFINED)
    }
    normal = [s for k, s in zip(vocabulary.types, vocabulary.scores, strict=True) if k == NORMAL]
    if len(normal) > 1 and len(set(normal)) == 1:
        raise UnsupportedModel(
            f"All pieces in the GGUF file score {normal[0]}: whoever converted it had no "
            "SentencePiece model. Convert it from a folder with tokenizer.model, or use the folder."
        )
    return found
