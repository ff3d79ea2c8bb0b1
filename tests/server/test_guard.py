"""Keys, rates and places."""

from __future__ import annotations

import pytest

from tests.server.conftest import LEGACY, STRICT
from toolkit.completion.complete import LM
from toolkit.errors import QueueFull
from toolkit.server import create_app
from toolkit.server.guard import Guard

ROUTES = [
    "/v1/models",
    "/v1/openai/v1/models",
    "/metrics",
    "/tokenizer_info",
    "/openapi.json",
    "/x",
]
ASKED = {"model": "toy", "prompt": "A", "max_tokens": 1}


def test_every_route_but_health_wants_the_key(toy: LM):
    client = create_app(toy, api_keys=["first", "z\u00fcrich"]).test_client()
    assert client.get("/health").status_code == 200
    for path in ROUTES:
        reply = client.get(path)
        assert reply.status_code == 401
        assert reply.headers["WWW-Authenticate"] == "Bearer"
    for path in (STRICT, LEGACY):
        assert client.post(path, json=ASKED).status_code == 401
        for key in ("first", "z\u00fcrich"):
            headers = {"Authorization": f"Bearer {key}".encode().decode("latin-1")}
            assert client.post(path, json=ASKED, headers=headers).status_code == 200


@pytest.mark.parametrize(
    "header", ["", "first", "Bearer", "Bearer ", "Bearer firs", "Bearer first2", "Basic first"]
)
def test_other_keys_are_refused(toy: LM, header: str):
    client = create_app(toy, api_keys=["first"]).test_client()
    strict = client.post(STRICT, json=ASKED, headers={"Authorization": header})
    assert strict.status_code == 401
    assert strict.get_json() == {
        "status": 401,
        "title": "Unauthorized",
        "detail": "The key is missing or wrong. Send it as `Authorization: Bearer KEY`.",
    }
    legacy = client.post(LEGACY, json=ASKED, headers={"Authorization": header})
    assert legacy.get_json()["error"]["type"] == "authentication_error"
    assert legacy.get_json()["error"]["code"] == "invalid_api_key"


def test_rate_is_counted_by_address_where_no_key_is_wanted(toy: LM):
    client = create_app(toy, rate_limit="2/hour").test_client()
    for number, status in enumerate([200, 200, 429]):
        made_up = {"Authorization": f"Bearer {number}"}
        reply = client.post(LEGACY, json=ASKED, headers=made_up)
        assert reply.status_code == status
    assert 3500 <= int(reply.headers["Retry-After"]) <= 3600
    assert reply.get_json()["error"]["message"].startswith("More than 2 per 1 hour from one client")
    other = client.post(LEGACY, json=ASKED, environ_base={"REMOTE_ADDR": "127.0.0.2"})
    assert other.status_code == 200
    assert client.get("/v1/models").status_code == 200


def test_rate_is_counted_by_key_where_one_is_wanted(toy: LM):
    client = create_app(toy, rate_limit="1/hour", api_keys=["a", "b"]).test_client()
    for key, status in [("a", 200), ("a", 429), ("b", 200)]:
        headers = {"Authorization": f"Bearer {key}"}
        assert client.post(STRICT, json=ASKED, headers=headers).status_code == status


def test_places_are_given_back(toy: LM):
    guard = Guard(max_requests=1)
    guard.enter()
    with pytest.raises(QueueFull, match="1 requests are being handled"):
        guard.enter()
    guard.leave()
    guard.enter()

    client = create_app(toy, max_requests=1).test_client()
    for asked in (ASKED, ASKED | {"frobnicate": 1}, ASKED | {"model": "other"}):
        client.post(LEGACY, json=asked)
    with client.post(LEGACY, json=ASKED | {"stream": True}) as stream:
        assert client.post(LEGACY, json=ASKED).status_code == 429
        assert "[DONE]" in stream.text
    with client.post(LEGACY, json=ASKED | {"stream": True}):
        pass  # left before the first event was read
    assert client.post(LEGACY, json=ASKED).status_code == 200
