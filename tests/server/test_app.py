"""The contract's cases that only HTTP has, in Flask's own client: envelopes, errors, headers."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

import jsonschema
import pytest
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from tests.server.conftest import LEGACY, STRICT, fail_at_third_token, renamed
from toolkit.completion.complete import LM
from toolkit.errors import EngineClosed, EngineFault
from toolkit.server import create_app
from toolkit.server.tokens import DETOKENIZE, TOKENIZE

ROUTES = [STRICT, LEGACY]
Valid = Callable[[Any], None]


@pytest.fixture
def fits(specification: dict[str, Any]) -> Valid:
    """Whether a body is an error of the specification."""
    schema = specification["responses"]["400"]["content"]["application/json"]["schema"]
    return jsonschema.Draft202012Validator(schema).validate


def check_error(reply: TestResponse, path: str, status: int, fits: Valid) -> str:
    """The error has the shape of its route; its message."""
    assert reply.status_code == status, reply.text
    assert reply.mimetype == "application/json"
    body = reply.get_json()
    if path.startswith("/v1/openai/"):
        fits(body)
        assert list(body) == ["status", "title", "detail"]
        assert body["status"] == status
        return body["detail"]
    assert list(body) == ["error"]
    assert list(body["error"]) == ["message", "type", "param", "code"]
    return body["error"]["message"]


def events(reply: TestResponse) -> list[Any]:
    """The events of a stream, checked to be framed by blank lines; `[DONE]` last."""
    *frames, rest = reply.text.split("\n\n")
    assert rest == ""
    assert all(frame.startswith("data: ") and "\n" not in frame for frame in frames)
    assert frames.pop() == "data: [DONE]"
    return [json.loads(frame.removeprefix("data: ")) for frame in frames]


@pytest.mark.parametrize("path", ROUTES)
def test_answer(client: FlaskClient, path: str):
    reply = client.post(path, json={"model": "toy", "prompt": "A", "seed": -5})
    assert reply.status_code == 200
    assert reply.mimetype == "application/json"
    assert reply.headers["x-seed"] == "-5"
    body = reply.get_json()
    assert body["choices"][0]["text"] == "one two three"
    assert ("usage" in body) is (path == LEGACY)


@pytest.mark.parametrize("path", ROUTES)
@pytest.mark.parametrize("body", [b"", b" ", b"[]", b'"x"', b"{", b'{"a":1,"a":2}', b"\xff", b"1"])
def test_case_15_no_json_object_is_400(client: FlaskClient, path: str, body: bytes, fits: Valid):
    check_error(client.post(path, data=body), path, 400, fits)


@pytest.mark.parametrize("path", ROUTES)
@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "PATCH"])
def test_case_15_wrong_method_is_405(client: FlaskClient, path: str, method: str, fits: Valid):
    reply = client.open(path, method=method)
    message = check_error(reply, path, 405, fits)
    assert message == f"'{path}' takes POST, not {method}."
    assert set(reply.headers["Allow"].split(", ")) == {"POST", "OPTIONS"}


@pytest.mark.parametrize(
    "path", ["/v1/openai/v1/x", "/v1/openai/v1/completions/", "/v1/x", "//", "/"]
)
def test_case_15_unknown_path_is_404(client: FlaskClient, path: str, fits: Valid):
    assert "/openapi.json" in check_error(client.post(path), path, 404, fits)


@pytest.mark.parametrize("path", ROUTES)
@pytest.mark.parametrize("stream", [True, False])
def test_case_16_unknown_model_is_404(client: FlaskClient, path: str, stream: bool, fits: Valid):
    reply = client.post(path, json={"model": "other", "prompt": "A", "stream": stream})
    assert "'toy'" in check_error(reply, path, 404, fits)


@pytest.mark.parametrize("path", ROUTES)
def test_case_35_prompt_over_the_context_is_400_also_when_streaming(
    client: FlaskClient, path: str, fits: Valid
):
    asked = {"model": "toy", "prompt": [65] * 65, "stream": True}
    message = check_error(client.post(path, json=asked), path, 400, fits)
    assert "65" in message and "64" in message


def test_case_17_the_specifications_own_example_is_404(client: FlaskClient, fits: Valid):
    asked = {"model": "string", "prompt": "string"}
    check_error(client.post(STRICT, json=asked), STRICT, 404, fits)


@pytest.mark.parametrize("path", ROUTES)
def test_case_101_stream(client: FlaskClient, path: str):
    asked = {"model": "toy", "prompt": ["A", "E"], "stream": True, "seed": 3}
    reply = client.post(path, json=asked)
    assert reply.status_code == 200
    assert reply.headers["Content-Type"] == "text/event-stream; charset=utf-8"
    assert reply.headers["Cache-Control"] == "no-cache"
    assert reply.headers["x-seed"] == "3"
    found = events(reply)
    assert len({(event["id"], event["created"], event["model"]) for event in found}) == 1
    texts = ["", ""]
    for event in found:
        (choice,) = event["choices"]
        texts[choice["index"]] += choice["text"]
    assert texts == ["one two three", "brown fox"]


@pytest.mark.parametrize("path", ROUTES)
def test_case_100_usage_comes_in_an_event_of_its_own(client: FlaskClient, path: str):
    asked = {"model": "toy", "prompt": "A", "stream": True}
    options = {"stream_options": {"include_usage": True}}
    *others, last = events(client.post(path, json=asked | options))
    assert last["choices"] == []
    assert last["usage"] == {"prompt_tokens": 1, "completion_tokens": 5, "total_tokens": 6}
    assert [event.get("usage", "absent") for event in others] == [
        None if path == LEGACY else "absent"
    ] * len(others)
    assert all("usage" not in event for event in events(client.post(path, json=asked)))


@pytest.mark.parametrize("path", ROUTES)
@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (EngineFault("A step failed: injected"), "A step failed: injected"),
        (RuntimeError("a detail"), "An unexpected error occurred. The request was not at fault."),
    ],
)
def test_case_102_fault_in_mid_stream_is_an_event(
    client: FlaskClient, path: str, fault: Exception, message: str, monkeypatch: pytest.MonkeyPatch
):
    fail_at_third_token(monkeypatch, fault)
    *others, last = events(client.post(path, json={"model": "toy", "prompt": "A", "stream": True}))
    assert [event["choices"][0]["text"] for event in others] == ["one ", "tw"]
    assert last["error"] == {
        "message": message,
        "type": "server_error",
        "code": None,
        "status": 500,
        "title": "Internal Server Error",
        "detail": message,
    }
    monkeypatch.undo()
    reply = client.post(path, json={"model": "toy", "prompt": "A"})
    assert reply.get_json()["choices"][0]["text"] == "one two three"


def test_fault_of_our_own_is_500_without_a_trace_of_it(
    client: FlaskClient, monkeypatch: pytest.MonkeyPatch, fits: Valid, caplog: Any
):
    secret = "the prompt was: hunter2"

    def failing(*_: Any, **__: Any) -> None:
        raise KeyError(secret)

    monkeypatch.setattr("toolkit.server.app.parse", failing)
    for path in ROUTES:
        reply = client.post(path, json={"model": "toy", "prompt": "A"})
        assert "hunter2" not in check_error(reply, path, 500, fits)
    assert "KeyError in" in caplog.text
    assert "hunter2" not in caplog.text


@pytest.mark.parametrize("path", ROUTES)
def test_case_104_full_queue_is_429(
    client: FlaskClient, toy: LM, path: str, monkeypatch: pytest.MonkeyPatch, fits: Valid
):
    monkeypatch.setattr(toy.engine, "max_waiting", 0)
    for stream in (True, False):
        asked = {"model": "toy", "prompt": "A", "stream": stream}
        reply = client.post(path, json=asked)
        check_error(reply, path, 429, fits)
        assert reply.headers["Retry-After"] == "1"
        if path == STRICT:
            assert reply.get_json()["title"] == "Too Many Requests"
        else:
            assert reply.get_json()["error"]["type"] == "rate_limit_error"


@pytest.mark.parametrize("kind", [None, "text/plain", "application/json", "image/png", "a b;c"])
def test_case_109_any_content_type_will_do(client: FlaskClient, kind: str | None):
    for path in ROUTES:
        body = b'{"model": "toy", "prompt": "A"}'
        assert client.post(path, data=body, content_type=kind).status_code == 200


@pytest.mark.parametrize("path", ROUTES)
def test_case_109_large_body_is_413(toy: LM, path: str, fits: Valid):
    client = create_app(toy, max_body=100).test_client()
    assert client.post(path, data=b'{"model": "toy", "prompt": "A"}').status_code == 200
    message = check_error(client.post(path, data=b" " * 101), path, 413, fits)
    assert message == "The body has more than 100 bytes. Send less."


@pytest.mark.parametrize("path", ROUTES)
def test_case_110_more_prompts_than_the_cap_are_400(client: FlaskClient, path: str, fits: Valid):
    reply = client.post(path, json={"model": "toy", "prompt": ["A"] * 257})
    assert "over the limit of 256" in check_error(reply, path, 400, fits)


@pytest.mark.parametrize("path", ROUTES)
def test_choices_that_would_keep_everybody_waiting_are_400(
    client: FlaskClient, path: str, fits: Valid
):
    asked = {"model": "toy", "prompt": "A", "guided_choice": [f"{i:06}" for i in range(20_000)]}
    message = check_error(client.post(path, json=asked), path, 400, fits)
    assert message.startswith("`guided_choice` holds 120000 bytes of text, and the limit is 65536.")
    long = {"model": "toy", "prompt": "x" * 300_000}
    assert "300000 tokens" in check_error(client.post(path, json=long), path, 400, fits)


def test_old_clients_may_have_strict_streams_without_done(toy: LM):
    client = create_app(toy, strict_done=False).test_client()
    asked = {"model": "toy", "prompt": "A", "stream": True}
    assert "[DONE]" not in client.post(STRICT, json=asked).text
    assert client.post(LEGACY, json=asked).text.endswith("data: [DONE]\n\n")


def test_unknown_fields_may_be_dropped_on_the_legacy_route(toy: LM):
    client = create_app(toy, ignore_unknown_fields=True).test_client()
    asked = {"model": "toy", "prompt": "A", "frobnicate": 1}
    assert client.post(LEGACY, json=asked).status_code == 200
    assert client.post(STRICT, json=asked).status_code == 400


@pytest.mark.parametrize(
    ("prompt", "fields", "header", "content"),
    [
        ("AB", {"prompt_logprobs": 2, "max_tokens": 0}, "1", 1),
        ([[65, 66, 67], [65]], {"prompt_logprobs": 0, "max_tokens": 0}, "2,0", 2),
        ("xyz", {"echo": True, "logprobs": True, "max_tokens": 0}, "2", 2),
        ("xyz", {"logprobs": True, "max_tokens": 0}, None, 0),
    ],
)
def test_header_counts_the_entries_of_the_prompt(
    client: FlaskClient, prompt: Any, fields: dict[str, Any], header: str | None, content: int
):
    reply = client.post(STRICT, json={"model": "toy", "prompt": prompt, **fields})
    assert reply.headers.get("x-prompt-logprobs-count") == header
    assert len(reply.get_json()["choices"][0]["logprobs"]["content"]) == content


def test_unseeded_answer_is_replayed_with_the_seed_of_its_header(client: FlaskClient):
    asked = {"model": "toy", "prompt": "x"}
    first, second = (client.post(LEGACY, json=asked) for _ in range(2))
    assert first.headers["x-seed"] != second.headers["x-seed"]
    again = client.post(LEGACY, json=asked | {"seed": int(first.headers["x-seed"])})
    assert again.get_json()["choices"] == first.get_json()["choices"]


def test_several_models(toy: LM, fits: Valid):
    client = create_app([renamed(toy, "one"), renamed(toy, "two")]).test_client()
    for path in ("/v1/models", "/v1/openai/v1/models"):
        assert [m["id"] for m in client.get(path).get_json()["data"]] == ["one", "two"]
    for name in ("one", "two"):
        reply = client.post(LEGACY, json={"model": name, "prompt": "A"})
        assert reply.get_json()["model"] == name
    nameless = client.post(LEGACY, json={"prompt": "A"})
    message = check_error(nameless, LEGACY, 400, fits)
    assert message == "`model` is required: several are served. Use one of 'one', 'two'."
    assert client.get("/tokenizer_info").status_code == 400
    assert client.get("/tokenizer_info?model=two").get_json()["model"] == "two"


def test_models_of_one_name_and_no_models_are_refused(toy: LM):
    with pytest.raises(ValueError, match="distinct names, got 'toy', 'toy'"):
        create_app([toy, toy])
    with pytest.raises(ValueError, match="distinct names, got none"):
        create_app([])


def test_only_model_needs_no_name_on_the_legacy_route(client: FlaskClient):
    reply = client.post(LEGACY, json={"prompt": "A", "model": None})
    assert reply.get_json()["model"] == "toy"


def test_answer_that_takes_too_long_is_cut_off(toy: LM, fits: Valid):
    client = create_app(toy, request_timeout=1e-9).test_client()
    for path in ROUTES:
        reply = client.post(path, json={"model": "toy", "prompt": "A"})
        assert "longer than the 1e-09 s" in check_error(reply, path, 500, fits)
        (event,) = events(client.post(path, json={"model": "toy", "prompt": "A", "stream": True}))
        assert event["error"]["status"] == 500


def test_health_is_an_error_once_the_model_is_closed(toy: LM, monkeypatch: pytest.MonkeyPatch):
    client = create_app(toy).test_client()
    assert client.get("/health").get_json() == {"status": "ok"}

    def closed(_: Any) -> None:
        raise EngineClosed("The engine is closed.")

    monkeypatch.setattr(toy.engine, "submit", closed)
    assert client.get("/health").status_code == 500


def test_openapi_document_holds_the_specifications_operation(
    client: FlaskClient, specification: dict[str, Any]
):
    document = client.get("/openapi.json").get_json()
    assert document["paths"][STRICT]["post"] == specification
    for rule in client.application.url_map.iter_rules():
        assert str(rule).replace("<name:model>", "{model}") in document["paths"]
    assert "security" not in document and "securitySchemes" not in document.get("components", {})


def test_openapi_document_tells_of_keys_and_fields(toy: LM):
    client = create_app(toy, api_keys="k").test_client()
    document = client.get("/openapi.json", headers={"Authorization": "Bearer k"}).get_json()
    scheme = {"type": "http", "scheme": "bearer"}
    assert document["components"]["securitySchemes"] == {"key": scheme}
    assert document["security"] == [{"key": []}]
    assert document["paths"]["/health"]["get"]["security"] == []
    for path, rules in [("/tokenize", TOKENIZE), ("/detokenize", DETOKENIZE)]:
        body = document["paths"][path]["post"]["requestBody"]["content"]["application/json"]
        assert set(body["schema"]["properties"]) == set(rules)
    (named,) = document["paths"]["/v1/models/{model}"]["get"]["parameters"]
    assert (named["name"], named["in"], named["required"]) == ("model", "path", True)
    assert document["paths"]["/tokenizer_info"]["get"]["parameters"][0]["in"] == "query"


@pytest.mark.parametrize("base", ["/v1/models", "/v1/openai/v1/models"])
def test_one_model(toy: LM, base: str, fits: Valid):
    names = ["toy", "org/name", "/abs/folder", "a b"]
    client = create_app([renamed(toy, name) for name in names]).test_client()
    listed = client.get(base).get_json()["data"]
    assert [entry["id"] for entry in listed] == names
    for entry in listed:
        for path in (quote(entry["id"]), quote(entry["id"], safe="")):
            assert client.get(f"{base}/{path}").get_json() == entry
    for path in ("other", "toy/", "org"):
        message = check_error(client.get(f"{base}/{path}"), base, 404, fits)
        assert f"`model` {path!r} is not served here" in message
    check_error(client.get(f"{base}/"), base, 404, fits)
    assert check_error(client.post(f"{base}/toy"), base, 405, fits).endswith("takes GET, not POST.")


def test_method_of_a_clients_own_making_is_cut_short_and_counted_as_other(
    client: FlaskClient, caplog: pytest.LogCaptureFixture
):
    with caplog.at_level(logging.INFO, logger="toolkit.server"):
        for number in range(3):
            reply = client.open("/x", method=f"BREW{number}" + "Q" * 5000)
            assert len(reply.data) < 300
        client.open("/x", method="PUT")
    assert [r.getMessage().split()[:2] for r in caplog.records if r.name == "toolkit.server"] == [
        *[["-", "other"]] * 3,
        ["-", "PUT"],
    ]
    metrics = client.get("/metrics").text
    assert 'toolkit_requests_total{method="other",route="unknown",status="404"} 3.0' in metrics
    assert "BREW" not in metrics


def test_log_has_one_line_a_request_and_no_prompt(toy: LM, caplog: pytest.LogCaptureFixture):
    client = create_app(toy, api_keys=["hunter2"]).test_client()
    headers = {"Authorization": "Bearer hunter2"}
    asked = {"model": "toy", "prompt": "A", "user": "hunter2"}
    with caplog.at_level(logging.INFO, logger="toolkit.server"):
        first = client.post(LEGACY, json=asked, headers=headers).get_json()
        with client.post(LEGACY, json=asked | {"stream": True}, headers=headers) as reply:
            events(reply)
        client.post(LEGACY, json=asked | {"hunter2": 1}, headers=headers)
        client.get("/nowhere?key=hunter2\n", headers=headers)
        client.get("/v1/models", headers={"Authorization": "Bearer wrong"})
    lines = [record.getMessage() for record in caplog.records if record.name == "toolkit.server"]
    assert len(lines) == 5
    assert lines[0].startswith(f"{first['id']} POST {LEGACY} 200 prompt=1 completion=5 queue=")
    assert "completion=5" in lines[1]
    assert [line.split()[:4] for line in lines[2:]] == [
        ["-", "POST", LEGACY, "400"],
        ["-", "GET", "/nowhere", "404"],
        ["-", "GET", "/v1/models", "401"],
    ]
    assert "hunter2" not in caplog.text and "one two" not in caplog.text
