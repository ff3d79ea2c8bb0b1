"""The four forms of `prompt`: a string, strings, token ids, lists of token ids."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from toolkit.completion.request.dialect import Dialect, Limits
from toolkit.completion.request.rules import Rule, as_integer, read_text, refuse, show, wrong
from toolkit.errors import InvalidRequest

Prompt = str | tuple[int, ...]
"""One prompt: text that is still to be tokenised, or ids that the model gets as they are."""

_FORMS = "a string, a list of strings, a list of token ids or a list of lists of token ids"


@dataclasses.dataclass(frozen=True)
class PromptForms(Rule):
    """Any of the four forms, normalised to a tuple of prompts."""

    def read(self, value: Any, name: str, dialect: Dialect) -> tuple[Prompt, ...]:
        if isinstance(value, str):
            return (read_text(value, name),)
        if not isinstance(value, (list, tuple)):
            raise wrong(name, _FORMS, value)
        if value and isinstance(value[0], str):
            return tuple(_text(item, name, i) for i, item in enumerate(value))
        if value and isinstance(value[0], (list, tuple)):
            return tuple(_ids(item, name, f"prompt {i}, ") for i, item in enumerate(value))
        return (_ids(value, name, ""),) if value else ()

    def check(self, value: tuple[Prompt, ...], name: str, limits: Limits) -> None:
        if not value:
            raise refuse(
                name, f'`{name}` must not be an empty list. Use "" to start a new document.'
            )
        if () in value:
            hint = 'Use "" to start a new document.'
            raise refuse(name, f"`{name}` holds no token ids (prompt {value.index(())}). {hint}")


def _text(item: object, name: str, position: int) -> str:
    if not isinstance(item, str):
        raise _mixed(item, name, f"item {position}", "item 0 is a string")
    return read_text(item, name, where=f"prompt {position}")


def _ids(items: object, name: str, prefix: str) -> tuple[int, ...]:
    if not isinstance(items, Sequence) or isinstance(items, (str, bytes)):
        raise _mixed(items, name, prefix.removesuffix(", "), "prompt 0 is a list of token ids")
    if all(type(item) is int for item in items):  # the usual case, at the speed of C
        return tuple(items)
    ids = [as_integer(item) for item in items]
    if None in ids:
        at = ids.index(None)
        raise _mixed(items[at], name, f"{prefix}position {at}", "token ids are integers")
    return tuple(i for i in ids if i is not None)


def _mixed(item: object, name: str, where: str, against: str) -> InvalidRequest:
    return refuse(name, f"`{name}` must be {_FORMS}; {where} is {show(item)}, but {against}.")
