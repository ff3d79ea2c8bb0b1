"""The client: what it sends, what it reads, and what it makes of failures."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import httpx2
import pytest

from toolkit.errors import InvalidRequest, TargetError
from toolkit.experiments.target import Remote, Streaming, Target

Handler = Callable[[httpx2.Request], httpx2.Response]
ANSWER = {"choices": [{"index": 0, "text": "b", "finish_reason": "stop"}]}


def remote(handler: Handler, url: str = "http://host:1/v1", **options: Any) -> Remote:
    client = httpx2.Client(transport=httpx2.MockTransport(handler))
    return Remote(url, client=client, **{"model": "m", **options})


def replies(status: int, body: Any = None, **headers: str) -> Handler:
    text = body if isinstance(body, str) else json.dumps(body)
    return lambda request: httpx2.Response(
        status, text=text, headers={k.replace("_", "-"): v for k, v in headers.items()}
    )


@pytest.mark.parametrize(
    ("given", "url", "dialect"),
    [
        ("http://h:1", "http://h:1/v1", "legacy"),
        ("http://h:1/", "http://h:1/v1", "legacy"),
        ("http://h:1/v1/", "http://h:1/v1", "legacy"),
        ("http://h:1/v1/completions", "http://h:1/v1", "legacy"),
        ("https://h/v1/openai/v1", "https://h/v1/openai/v1", "strict"),
        ("https://h/api?x=1", "https://h/api", "legacy"),
    ],
)
def test_addresses(given: str, url: str, dialect: str):
    target = remote(replies(200), given)
    assert (target.url, target.dialect) == (url, dialect)
    assert isinstance(target, Target)
    assert isinstance(target, Streaming)


@pytest.mark.parametrize("given", ["", "host", "ftp://x/v1", "http://", 3])
def test_what_is_no_address_is_refused(given: Any):
    with pytest.raises(InvalidRequest, match="is no address"):
        Remote(given)


def test_unknown_dialect_is_refused():
    with pytest.raises(InvalidRequest, match="`dialect` must be one of"):
        Remote("http://h", dialect="x")


def test_fields_go_out_as_given_without_none_and_with_the_key():
    seen: list[httpx2.Request] = []

    def handler(request: httpx2.Request) -> httpx2.Response:
        seen.append(request)
        return httpx2.Response(200, json=ANSWER)

    target = remote(handler, api_key="secret")
    answer = target.complete({"prompt": "a", "max_tokens": 1, "seed": None, "odd": {"x": 1}})
    assert answer.body == ANSWER
    assert answer.record is None
    assert answer.seconds > 0
    assert str(seen[0].url) == "http://host:1/v1/completions"
    assert seen[0].headers["authorization"] == "Bearer secret"
    assert json.loads(seen[0].content) == {
        "model": "m",
        "prompt": "a",
        "max_tokens": 1,
        "odd": {"x": 1},
    }
    assert "secret" not in repr(target)


def test_the_only_model_is_found_and_several_are_named():
    one = remote(replies(200, {"data": [{"id": "only"}]}), model=None)
    assert one.model == "only"
    several = remote(replies(200, {"data": [{"id": "a"}, {"id": "b"}]}), model=None)
    with pytest.raises(TargetError, match=r"several models or none: a, b. Choose one"):
        several.complete({"prompt": "a"})


@pytest.mark.parametrize(
    ("status", "body", "words", "retry"),
    [
        (400, {"error": {"message": "`n` is bad", "param": "n"}}, "`n` is bad", False),
        (400, {"status": 400, "title": "Bad Request", "detail": "wrong"}, "wrong", False),
        (422, {"detail": [{"msg": "field"}]}, "field", False),
        (404, "not here", "not here", False),
        (429, {"error": {"message": "slow down"}}, "slow down", True),
        (500, "", "", True),
        (503, {"message": "loading"}, "loading", True),
    ],
)
def test_refusals_carry_the_servers_words(status: int, body: Any, words: str, retry: bool):
    with pytest.raises(TargetError, match=f"answered {status}") as caught:
        remote(replies(status, body)).complete({"prompt": "a"})
    assert words in caught.value.message
    assert (caught.value.code, caught.value.retry) == (status, retry)


@pytest.mark.parametrize(("header", "seconds"), [("7", 7.0), ("soon", None), ("-1", 0.0)])
def test_retry_after(header: str, seconds: float | None):
    with pytest.raises(TargetError) as caught:
        remote(replies(429, {}, retry_after=header)).complete({"prompt": "a"})
    assert caught.value.retry_after == seconds


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (httpx2.ConnectError("refused"), "cannot be reached"),
        (httpx2.ReadTimeout("slow"), "did not answer in time"),
        (httpx2.RemoteProtocolError("cut"), "cannot be reached"),
    ],
)
def test_what_goes_wrong_on_the_way_may_be_tried_again(error: Exception, words: str):
    def handler(request: httpx2.Request) -> httpx2.Response:
        raise error

    with pytest.raises(TargetError, match=words) as caught:
        remote(handler).complete({"prompt": "a"})
    assert (caught.value.code, caught.value.retry) == (None, True)


@pytest.mark.parametrize("body", ["<html>", "[1]", "null", ""])
def test_200_that_is_no_object_is_an_error(body: str):
    with pytest.raises(TargetError, match="no JSON object"):
        remote(replies(200, body)).complete({"prompt": "a"})


def events(*lines: str) -> Handler:
    text = "".join(f"{line}\n\n" for line in lines)
    return lambda request: httpx2.Response(
        200, text=text, headers={"content-type": "text/event-stream"}
    )


def chunk(text: str) -> str:
    return "data: " + json.dumps({"choices": [{"index": 0, "text": text}]})


def test_streams_are_read_to_the_end():
    made = remote(events(": ping", chunk(""), chunk("a"), "data: [DONE]", chunk("late")))
    found = made.stream({"prompt": "x"})
    assert [c["choices"][0]["text"] for c in found.chunks] == ["", "a"]
    assert found.done
    assert found.first_token is not None
    assert found.content_type == "text/event-stream"
    assert not remote(events(chunk("a"))).stream({"prompt": "x"}).done


def test_an_error_inside_a_stream_is_raised():
    with pytest.raises(TargetError, match="broke its stream off: out of memory"):
        remote(events(chunk("a"), 'data: {"error": {"message": "out of memory"}}')).stream(
            {"prompt": "x"}
        )


def test_a_stream_that_is_refused_says_why():
    with pytest.raises(TargetError, match="answered 400"):
        remote(replies(400, {"error": {"message": "no"}})).stream({"prompt": "x"})


def by_path(found: dict[str, Any]) -> Handler:
    def handler(request: httpx2.Request) -> httpx2.Response:
        body = found.get(request.url.path)
        if body is None:
            return httpx2.Response(404, json={})
        wanted, reply = body
        if wanted is not None and wanted not in json.loads(request.content):
            return httpx2.Response(400, json={"detail": "wrong fields"})
        return httpx2.Response(200, json=reply)

    return handler


@pytest.mark.parametrize(
    ("path", "field"),
    [("/tokenize", "prompt"), ("/tokenize", "content"), ("/extras/tokenize", "input")],
)
def test_three_kinds_of_servers_tokenise(path: str, field: str):
    target = remote(by_path({path: (field, {"tokens": [1, 2]})}))
    assert target.tokenize("ab") == [1, 2]
    assert target.tokenize("ab") == [1, 2]


@pytest.mark.parametrize("reply", [{"tokens": ["a"]}, {"tokens": [True]}, {}, [1]])
def test_other_answers_are_no_ids(reply: Any):
    assert remote(by_path({"/tokenize": (None, reply)})).tokenize("ab") is None


def test_identity_leaves_out_what_changes_by_the_minute():
    models = {"data": [{"id": "m", "created": 5, "owned_by": "x"}, {"id": "other"}]}
    handler = by_path({"/v1/models": (None, models), "/version": (None, {"version": "1.2"})})
    assert remote(handler).identity() == {
        "kind": "remote",
        "url": "http://host:1/v1",
        "model": "m",
        "dialect": "legacy",
        "says": {"model": {"id": "m", "owned_by": "x"}, "version": {"version": "1.2"}},
    }


@pytest.fixture
def own() -> Iterator[Remote]:
    with Remote("http://127.0.0.1:9", model="m", timeout=5) as target:
        yield target


def test_a_client_of_its_own_is_closed_with_it(own: Remote):
    own.close()
    own.close()
    with pytest.raises((RuntimeError, TargetError)):
        own.complete({"prompt": "a"})
