"""`/openapi.json`: the specification's own operation, word for word, and what else is served."""

from __future__ import annotations

import importlib.resources
import json
from typing import Any

import toolkit
from toolkit.completion.request import Dialect, parameter_names

_OPERATIONS = {
    "/v1/models": "What `model` may be.",
    "/v1/openai/v1/models": "What `model` may be.",
    "/v1/models/{model}": "One of the models; a name may hold slashes.",
    "/v1/openai/v1/models/{model}": "One of the models; a name may hold slashes.",
    "/health": "Answers when the models are ready.",
    "/metrics": "Counters and latencies in the format of Prometheus.",
    "/tokenizer_info": "Special tokens and sizes; `?model=` where several are served.",
    "/openapi.json": "This document.",
}


def openapi(*, wants_key: bool = False) -> dict[str, Any]:
    """The document, OpenAPI 3.1. `wants_key`: every route but /health wants a key."""
    text = importlib.resources.files("toolkit.server").joinpath("specification.json").read_text()
    document = json.loads(text)
    document["info"] = {"title": "completion-toolkit", "version": toolkit.__version__}
    document["paths"] |= {
        Dialect.LEGACY.place: {"post": _legacy(document)},
        "/tokenize": {"post": _post("Text to ids.", _TOKENIZE, "prompt")},
        "/detokenize": {"post": _post("Ids to text.", _DETOKENIZE, "tokens")},
    }
    document["paths"] |= {path: {"get": _get(path, what)} for path, what in _OPERATIONS.items()}
    if wants_key:
        bearer = {"type": "http", "scheme": "bearer"}
        document.setdefault("components", {})["securitySchemes"] = {"key": bearer}
        document["security"] = [{"key": []}]
        document["paths"]["/health"]["get"]["security"] = []
    return document


def _get(path: str, what: str) -> dict[str, Any]:
    operation: dict[str, Any] = {"description": what, "responses": _RESPONSES}
    place = "path" if "{model}" in path else "query" if path == "/tokenizer_info" else None
    if place is not None:
        named = {"name": "model", "in": place, "required": place == "path"}
        operation["parameters"] = [{**named, "schema": {"type": "string"}}]
    return operation


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


_MODEL = {
    "type": ["string", "null"],
    "description": "One that /v1/models lists; required where several are served.",
}
_TOKENIZE = {
    "model": _MODEL,
    "prompt": {"type": "string"},
    "add_special_tokens": {
        "type": ["boolean", "null"],
        "description": "Whether a BOS that the tokenizer puts in front comes too. Yes by default.",
    },
    "return_token_strs": {
        "type": ["boolean", "null"],
        "description": "Whether `token_strs` holds the text of each token. No by default.",
    },
}
_DETOKENIZE = {
    "model": _MODEL,
    "tokens": {"type": "array", "items": {"type": "integer", "minimum": 0}},
}
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
