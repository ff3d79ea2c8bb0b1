"""Tokens by name: as labels for people, and as the strings that people type."""

from __future__ import annotations

import html
from collections.abc import Sequence

from toolkit.analysis.visible import label
from toolkit.completion.text import Tokenizer
from toolkit.errors import InvalidRequest


def shown(tokenizer: Tokenizer, token: int) -> str:
    """A token for a label: whitespace marked, controls and broken characters spelled out."""
    data = tokenizer.token_bytes(token)
    row = {"token": data.decode(errors="replace"), "token_bytes": data, "token_id": token}
    return label(row)


def escaped(tokenizer: Tokenizer, token: int) -> str:
    """The same for HTML, with its direction kept to itself."""
    name = html.escape(shown(tokenizer, token))
    return f'<span style="unicode-bidi:isolate;font-family:monospace">{name}</span>'


def found(tokenizer: Tokenizer, text: str) -> tuple[int, ...]:
    """The tokens that a typed string stands for, as they go on from another text; `#17` is id 17.

    A special token is found by its surface string. Raises InvalidRequest for an empty string and
    for an id that does not exist.
    """
    if text.startswith("#") and text[1:].isascii() and text[1:].isdigit():
        token = int(text[1:])
        if token >= tokenizer.vocab_size:
            last = tokenizer.vocab_size - 1
            raise InvalidRequest(f"`token` {text} does not exist: ids go from 0 to {last}.")
        return (token,)
    if not text:
        raise InvalidRequest("`token` is empty. Type a string such as ' Paris', or an id: '#17'.")
    return tuple(tokenizer.encode_continuation(text))


def several(tokenizer: Tokenizer, text: str, tokens: Sequence[int]) -> str:
    """What to know about a string of more than one token; empty for one token."""
    if len(tokens) == 1:
        return ""
    parts = ", ".join(f"{shown(tokenizer, token)} (#{token})" for token in tokens)
    return f"{text!r} is {len(tokens)} tokens: {parts}. Only the first is taken."
