"""Strict JSON for request bodies: refuses what Python lets pass and the contract does not."""

from __future__ import annotations

import json
import math
import re
from typing import Any, NoReturn

from toolkit.completion.request.rules import printable, quote, show
from toolkit.errors import InvalidRequest

MAX_DEPTH = 32
"""Most levels of lists and objects inside each other; a request needs three."""

_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")


def parse_json(body: bytes) -> object:
    """The value of a JSON text in UTF-8 (a byte order mark is skipped).

    Raises InvalidRequest for anything that is not JSON, and for NaN and Infinity, fractions beyond
    float64, thousands of digits, a key twice in one object, lone surrogates and deep nesting.
    """
    try:
        text = body.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InvalidRequest(f"The body is not UTF-8: byte {error.start} cannot be read.") from None
    if not text.strip():
        raise InvalidRequest("The body is empty. Send a JSON object.")
    value = _load(text)
    _check_tree(value, surrogates=_SURROGATE.search(text) is not None)
    return value


def _load(text: str) -> object:
    try:
        return json.loads(
            text,
            parse_constant=_no_constant,
            parse_float=_float,
            object_pairs_hook=_object,
        )
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        raise InvalidRequest(f"The body is not valid JSON: {error.msg} ({where}).") from None
    except RecursionError:
        raise _too_deep() from None
    except ValueError:  # what `int` says to thousands of digits
        raise InvalidRequest("The body holds a number with too many digits.") from None


def _no_constant(literal: str) -> NoReturn:
    raise InvalidRequest(f"The body is not valid JSON: {literal} is not a JSON number.")


def _float(literal: str) -> float:
    value = float(literal)
    if math.isinf(value):
        raise InvalidRequest(f"The number {show(literal)} is too large.")
    return value


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value: dict[str, Any] = {}
    for key, item in pairs:
        if key in value:
            raise InvalidRequest(
                printable(f"{quote(key)} occurs twice in one object. Give it once.")
            )
        value[key] = item
    return value


def _check_tree(root: object, *, surrogates: bool) -> None:
    """Refuse deep nesting, and lone surrogates where the text has escapes that could be some."""
    level = [root]
    for depth in range(MAX_DEPTH + 1):
        if surrogates:
            _check_texts(level)
        nests = [value for value in level if isinstance(value, (dict, list))]
        if depth == MAX_DEPTH and nests:
            raise _too_deep()
        level = [child for nest in nests for child in _children(nest)]


def _children(nest: dict[str, object] | list[object]) -> list[object]:
    return [*nest.keys(), *nest.values()] if isinstance(nest, dict) else nest


def _check_texts(values: list[object]) -> None:
    for value in values:
        if isinstance(value, str) and printable(value) != value:
            message = (
                f"The string {show(value)} holds a lone surrogate, which is no text. Remove it."
            )
            raise InvalidRequest(message)


def _too_deep() -> InvalidRequest:
    return InvalidRequest(f"The body nests lists and objects over {MAX_DEPTH} deep. Flatten it.")
