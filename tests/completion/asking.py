"""Requests on the three surfaces, for the tests of `parse`."""

from __future__ import annotations

from typing import Any

import pytest

from toolkit.completion.request import CompletionRequest, Dialect, parse
from toolkit.errors import InvalidRequest

S, L, P = Dialect.STRICT, Dialect.LEGACY, Dialect.PYTHON
EVERYWHERE = pytest.mark.parametrize("dialect", [S, L, P])


def ask(dialect: Dialect = S, **fields: Any) -> CompletionRequest:
    """A valid request but for `fields`."""
    return parse({"model": "toy", "prompt": "x", **fields}, dialect=dialect)


def refused(param: str, dialect: Dialect = S, **fields: Any) -> str:
    """The message with which `fields` are refused; it must name `param`."""
    with pytest.raises(InvalidRequest) as caught:
        ask(dialect, **fields)
    assert caught.value.param == param
    assert caught.value.status == 400
    assert f"`{param}`" in caught.value.message
    return caught.value.message
