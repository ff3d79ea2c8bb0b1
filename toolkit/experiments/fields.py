"""Checks of single fields of a declaration, as pydantic calls them: a ValueError says what is
wrong with the field, and the way out."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from toolkit.experiments.unfit import half, quoted
from toolkit.experiments.yamlfile import Base60

SEED_RANGE = range(-(2**63), 2**63)


def no_boolean(value: Any) -> Any:
    """Anything but a boolean."""
    if isinstance(value, bool):
        shown = "yes, on or true" if value else "no, off or false"
        raise ValueError(f'is a boolean: YAML reads an unquoted {shown} as one. Quote it: "yes"')
    return value


def text(value: Any) -> Any:
    """Text, or what another check refuses."""
    no_boolean(value)
    if isinstance(value, Base60):
        raise ValueError(quoted(value))
    if isinstance(value, str) and half(value):
        raise ValueError(f"{value!r:.60} holds half of a character. Write whole ones")
    if value is not None and not isinstance(value, str | list | tuple | Mapping):
        raise ValueError(f"is {value!r}, a {type(value).__name__}, and must be text. Quote it")
    return value


def prompt(value: Any) -> Any:
    """Text, or a list of token ids."""
    if not isinstance(value, list | tuple):
        return text(value)
    if not value:
        raise ValueError('holds no token ids. Use "" to start a new document')
    if not all(type(item) is int for item in value):
        raise ValueError("must be text or a list of token ids, which are whole numbers")
    if min(value) < 0:
        raise ValueError(f"holds {min(value)}, and token ids count from 0. Remove it")
    return list(value)


def distinct(values: list[Any]) -> list[Any]:
    """Values of which no two are equal."""
    for place, value in enumerate(values):
        if value == value and value in values[:place] and not isinstance(value, bool):
            raise ValueError(f"holds {value!r} twice. Each value is asked once: remove one")
    return values


def seeds(value: Any) -> Any:
    """A number counts: 3 is the seeds 0, 1, 2."""
    no_boolean(value)
    if isinstance(value, int):
        if value < 1:
            raise ValueError(f"is {value}. Give how many, as in 3, or a list, as in [0, 1, 2]")
        return list(range(value))
    return value


def seed(value: int) -> int:
    """A signed 64-bit integer."""
    if value not in SEED_RANGE:
        raise ValueError(f"is {value}, which is not a signed 64-bit integer. Choose a smaller one")
    return value


def file_name(name: str) -> str:
    """What may stand in the name of a file."""
    if not re.fullmatch(r"\w[\w.-]*", name):
        raise ValueError(f"is {name!r} and names a folder. Use letters, digits, -, _ and dots")
    return name


def template(value: str | None) -> str | None:
    """Text with `{column}` in it, and nothing else in braces."""
    if value is not None:
        pieces(value)
    return value


def pieces(value: str) -> list[tuple[str, str | None]]:
    """A template as pairs of text and the column that follows it; None at the end.

    Raises ValueError for a field that is more than a column's name.
    """
    from string import Formatter

    way = 'Write columns as "{question}", and {{ and }} for braces'
    try:
        found = list(Formatter().parse(value))
    except ValueError as error:
        raise ValueError(f"is no template: {error}. {way}") from None
    for _, name, form, conversion in found:
        if name is not None and (not name or form or conversion or re.search(r"[.\[\]]", name)):
            raise ValueError(f"has a field {name!r} that is no plain name of a column. {way}")
    return [(before, name) for before, name, _, _ in found]
