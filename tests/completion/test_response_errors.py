"""Error bodies of both dialects. Cases are those of the contract, section 6."""

from __future__ import annotations

import json
from typing import Any

import jsonschema
import pytest

from toolkit.completion.request import Dialect, parse
from toolkit.completion.response import (
    legacy_error,
    legacy_error_body,
    stream_error,
    strict_error,
    strict_error_body,
)
from toolkit.errors import (
    EngineClosed,
    EngineFault,
    InvalidRequest,
    ModelNotFound,
    QueueFull,
    ToolkitError,
)

ERRORS = [
    (InvalidRequest("`n` is bad.", param="n"), 400, "Bad Request", "invalid_request_error", None),
    (ModelNotFound("None.", param="model"), 404, "Not Found", "not_found_error", "model_not_found"),
    (QueueFull("Full."), 429, "Too Many Requests", "rate_limit_error", "rate_limit_exceeded"),
    (EngineFault("Broken."), 500, "Internal Server Error", "server_error", None),
    (EngineClosed("Closed."), 500, "Internal Server Error", "server_error", None),
]


@pytest.mark.parametrize(("error", "status", "title", "kind", "code"), ERRORS)
def test_case_15_errors_in_both_dialects(
    error: ToolkitError,
    status: int,
    title: str,
    kind: str,
    code: str | None,
    specification: dict[str, Any],
):
    body = strict_error(error)
    assert body == {"status": status, "title": title, "detail": error.message}
    schema = specification["responses"]["400"]["content"]["application/json"]["schema"]
    jsonschema.validate(body, schema)
    param = getattr(error, "param", None)
    expected = {"message": error.message, "type": kind, "param": param, "code": code}
    assert legacy_error(error) == {"error": expected}


def test_case_01_the_body_of_a_missing_model():
    with pytest.raises(InvalidRequest) as caught:
        parse({"prompt": "x"}, dialect=Dialect.STRICT)
    body = strict_error(caught.value)
    assert body.keys() == {"status", "title", "detail"}
    assert body["status"] == 400 and "`model`" in body["detail"]


def test_foreign_errors_show_nothing_of_themselves():
    for body in (strict_error(KeyError("secret")), legacy_error(KeyError("secret"))):
        assert "secret" not in json.dumps(body)
    assert strict_error(KeyError("secret"))["status"] == 500


@pytest.mark.parametrize(
    ("status", "title"), [(405, "Method Not Allowed"), (413, "Content Too Large")]
)
def test_errors_without_a_class(status: int, title: str):
    assert strict_error_body(status, "No.", "/x") == {
        "status": status,
        "title": title,
        "detail": "No.",
        "instance": "/x",
    }
    assert legacy_error_body(status, "No.")["error"]["type"] == "invalid_request_error"


def test_case_102_an_error_inside_a_stream_suits_both_dialects():
    assert stream_error(EngineFault("Broken.")) == {
        "error": {
            "message": "Broken.",
            "type": "server_error",
            "code": None,
            "status": 500,
            "title": "Internal Server Error",
            "detail": "Broken.",
        }
    }
