"""Tokens as people can see them: whitespace marked, controls spelled out, characters whole."""

from __future__ import annotations

import codecs
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

MARKS = {" ": "·", "\n": "⏎", "\t": "⇥", "\r": "␍"}
"""Whitespace -> the mark that shows it."""

LITERAL = 'class="mathjax_ignore tex2jax_ignore"'
"""On an element of HTML: Jupyter would typeset what stands between two dollars."""


def is_control(character: str) -> bool:
    """Whether a character acts on its surroundings instead of being seen: control characters and
    those that turn the direction of text. The joiner inside an emoji is none."""
    if character in MARKS or character == "\u200d":
        return False
    return unicodedata.category(character) in ("Cc", "Cf", "Zl", "Zp", "Cs")


def visible(text: str) -> str:
    """A token for a label: spaces, line ends and controls can be seen, and a mark that would sit
    on what stands before it gets a circle of its own."""
    circle = "◌" if text and unicodedata.category(text[0]) in ("Mn", "Mc", "Me") else ""
    return circle + "".join(MARKS.get(c) or (spelled(c) if is_control(c) else c) for c in text)


def spelled(character: str) -> str:
    """A control character by its number."""
    return f"<{ord(character):02X}>"


def label(row: Mapping[str, Any]) -> str:
    """A token of a frame for an axis or a list; bytes that are no text in hexadecimal."""
    token, data, number = row.get("token"), row.get("token_bytes"), row.get("token_id")
    if isinstance(data, bytes) and isinstance(token, str) and "\ufffd" in token:
        return "".join(f"\\x{byte:02x}" for byte in data)
    if isinstance(token, str):
        return visible(token) or "(empty)"
    return f"#{number}" if isinstance(number, int) else "?"


def whole(rows: Iterable[Mapping[str, Any]]) -> Iterator[tuple[Mapping[str, Any], str]]:
    """Each row with the characters that it completes.

    Of an emoji in four tokens the first three complete none. Together they are the text.
    """
    decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
    for row in rows:
        data, token = row.get("token_bytes"), row.get("token")
        if isinstance(data, bytes):
            yield row, decoder.decode(data)
        else:
            decoder.reset()
            yield row, token if isinstance(token, str) else label(row)
