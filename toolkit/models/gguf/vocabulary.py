"""The tokens of a GGUF file with their types, and what both kinds of tokenizer make of them."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Sequence
from typing import Any

from toolkit.errors import CheckpointError
from toolkit.models.families.attributes import Attributes

NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = range(1, 7)
"""gguf.TokenType."""

_PADDING = re.compile(r"\[PAD\d+\]")
"""What the converter calls an id that the model has and the tokenizer has not."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Vocabulary:
    """Token, type and score of each id; merges, where the file has them."""

    tokens: Sequence[str]
    types: Sequence[int]
    scores: Sequence[float] = ()
    merges: Sequence[str] | None = None

    @classmethod
    def read(cls, a: Attributes) -> Vocabulary:
        """The vocabulary of a file. Raises CheckpointError where its parts do not fit together."""
        tokens = a.take("tokens")
        made = cls(
            tokens=tokens,
            types=a.take("token_type", [NORMAL] * len(tokens)),
            scores=a.take("scores", []),
            merges=a.take("merges", None),
        )
        if len(made.types) != len(tokens):
            raise CheckpointError(
                f"The GGUF file has {len(tokens)} tokens and {len(made.types)} token types. Fetch "
                "it again."
            )
        if len(set(tokens)) != len(tokens):
            raise CheckpointError("The GGUF file lists a token twice. Convert the model again.")
        return made

    def ids(self) -> dict[str, int]:
        """Token -> id, without those that only fill the embedding up."""
        return {
            token: number
            for number, (token, kind) in enumerate(zip(self.tokens, self.types, strict=True))
            if kind != UNUSED or not _PADDING.fullmatch(token)
        }

    def added(
        self, *kinds: int, rstrip: Callable[[str, int], bool] = lambda token, kind: False
    ) -> list[dict[str, Any]]:
        """The tokens of some types, which a text is cut at before anything else; `rstrip(token,
        type)` tells which of them take the space after them."""
        return [
            {
                "id": number,
                "content": token,
                "single_word": False,
                "lstrip": False,
                "rstrip": rstrip(token, kind),
                "normalized": False,
                "special": kind != USER_DEFINED,
            }
            for number, (token, kind) in enumerate(zip(self.tokens, self.types, strict=True))
            if kind in kinds
        ]

    def first(self, kind: int) -> str | None:
        """The first token of a type, if there is one."""
        return self.tokens[self.types.index(kind)] if kind in self.types else None

    def token(self, number: int | None) -> str | None:
        """The token of an id that the file names. Raises CheckpointError if there is none."""
        if number is not None and number >= len(self.tokens):
            raise CheckpointError(
                f"The GGUF file names token {number} of a vocabulary of {len(self.tokens)}. Fetch "
                "it again."
            )
        return None if number is None else self.tokens[number]


def tokenizer_json(
    *,
    added: list[dict[str, Any]],
    model: dict[str, Any],
    decoder: dict[str, Any],
    normalizer: dict[str, Any] | None = None,
    pre_tokenizer: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """A tokenizer.json of a BPE model, without a post-processor."""
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": added,
        "normalizer": normalizer,
        "pre_tokenizer": pre_tokenizer,
        "post_processor": None,
        "decoder": decoder,
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": False,
            **model,
        },
    }
