"""`/openapi.json`: the specification's own operation, word for word, and what else is served."""

from __future__ import annotations

import importlib.resources
import json
from typing import Any

import toolkit
from toolkit.completion.request import Dialect, parameter_names

_OPERATIONS = {
    "/v1/models": ("get", "What `model` may be."),
    "/v1/openai/v1/models": ("get", "What `model` may be."),
    "/health": ("get", "Answers when the models are ready."),
    "/metrics": ("get", "Counters and latencies in the format of Prometheus."),
    "/tokenizer_info": ("get", "Special tokens and sizes; `?model=` where several are served."),
    "/openapi.json": ("get", "This document."),
}


def openapi() -> dict[str, Any]:
    """The document, OpenAPI 3.1."""
    text = importlib.resources.files("toolkit.server").joinpath("specification.json").read_text()
    document = json.loads(text)
    document["info"] = {"title": "completion-toolkit", "version": toolkit.__version__}
    document["paths"] |= {
        Dialect.LEGACY.place: {"post": _legacy(document)},
        "/tokenize": {"post": _post("Text to ids.", _fields("prompt"), "prompt")},
        "/detokenize": {"post": _post("Ids to text.", {"tokens": _IDS}, "tokens")},
    }
    for path, (method, what) in _OPERATIONS.items():
        document["paths"][path] = {method: {"description": what, "responses": _RESPONSES}}
    return document


def _legacy(document: dict[str, Any]) -> dict[str, Any]:
    """The route of OpenAI's and vLLM's clients. null stands for an absent field there."""
    strict = document["paths"][Dialect.STRICT.place]["post"]["requestBody"]
    known = strict["content"]["application/json"]["schema"]["properties"]
    fields = {
        name: {"description": known.get(name, {}).get("description", "See docs/contract.md.")}
        for name in parameter_names(Dialect.LEGACY)
    }
    return _post("A completion in the shape of OpenAI's and vLLM's clients.", fields, "prompt")


def _post(what: str, fields: dict[str, Any], required: str) -> dict[str, Any]:
    schema = {"type": "object", "properties": fields, "required": [required]}
    body = {"required": True, "content": {"application/json": {"schema": schema}}}
    return {"description": what, "requestBody": body, "responses": _RESPONSES}


def _fields(*names: str) -> dict[str, Any]:
    return {name: {"type": "string"} for name in names}


_IDS = {"type": "array", "items": {"type": "integer"}}
_ERROR = {
    "description": "What was wrong, for a person and for a program.",
    "content": {
        "application/json": {
            "schema": {
                "type": "object",
                "properties": {
                    "error": {
                        "type": "object",
                        "properties": {
                            "message": {"type": "string"},
                            "type": {"type": "string"},
                            "param": {"type": ["string", "null"]},
                            "code": {"type": ["string", "null"]},
                        },
                        "required": ["message", "type", "param", "code"],
                    }
                },
                "required": ["error"],
            }
        }
    },
}
_RESPONSES = {"200": {"description": "The answer."}, "default": _ERROR}
