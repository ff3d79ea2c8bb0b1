"""The tokenizer over HTTP."""

from __future__ import annotations

from typing import Any

import pytest
from flask.testing import FlaskClient


def test_tokenizer_info(client: FlaskClient):
    assert client.get("/tokenizer_info").get_json() == {
        "model": "toy",
        "bos_token": None,
        "eos_token": "<|end|>",
        "pad_token": None,
        "chat_template": None,
        "model_max_length": 64,
        "vocab_size": 304,
    }
    assert client.get("/tokenizer_info?model=other").status_code == 404


def test_text_to_ids_and_back(client: FlaskClient):
    asked = {"prompt": "A\u00e9<|end|>", "add_special_tokens": False, "return_token_strs": True}
    reply = client.post("/tokenize", json=asked).get_json()
    assert reply == {
        "count": 4,
        "max_model_len": 64,
        "tokens": [65, 0xC3, 0xA9, 256],
        "token_strs": ["A", "\ufffd", "\ufffd", "<|end|>"],
    }
    back = client.post("/detokenize", json={"tokens": reply["tokens"], "model": "toy"})
    assert back.get_json() == {"prompt": "A\u00e9<|end|>"}


def test_no_text_has_no_tokens(client: FlaskClient):
    assert client.post("/tokenize", json={"prompt": ""}).get_json()["tokens"] == []
    assert client.post("/detokenize", json={"tokens": []}).get_json() == {"prompt": ""}


@pytest.mark.parametrize(
    ("path", "asked", "param", "status"),
    [
        ("/tokenize", {}, "prompt", 400),
        ("/tokenize", {"prompt": 1}, "prompt", 400),
        ("/tokenize", {"prompt": None}, "prompt", 400),
        ("/tokenize", {"prompt": "a", "add_special_tokens": 1}, "add_special_tokens", 400),
        ("/tokenize", {"prompt": "a", "frobnicate": 1}, "frobnicate", 400),
        ("/tokenize", {"prompt": "a", "model": "other"}, "model", 404),
        ("/tokenize", [], None, 400),
        ("/detokenize", {"tokens": "a"}, "tokens", 400),
        ("/detokenize", {"tokens": [1.5]}, "tokens", 400),
        ("/detokenize", {"tokens": [True]}, "tokens", 400),
        ("/detokenize", {"tokens": [-1]}, "tokens", 400),
        ("/detokenize", {"tokens": [304]}, "tokens", 400),
    ],
)
def test_bad_fields_are_refused(
    client: FlaskClient, path: str, asked: Any, param: str | None, status: int
):
    reply = client.post(path, json=asked)
    assert reply.status_code == status
    assert reply.get_json()["error"]["param"] == param
