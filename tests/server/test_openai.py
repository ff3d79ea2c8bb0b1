"""The `openai` client on both routes of a real server: parameters, batches, streams, errors."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import openai
import pytest

from tests.server.conftest import fail_at_third_token, renamed
from toolkit.completion.complete import LM
from toolkit.errors import EngineFault
from toolkit.server import Server, serve

BASES = ["/v1", "/v1/openai/v1"]


@pytest.fixture(params=BASES)
def client(server: Server, request: pytest.FixtureRequest) -> Iterator[openai.OpenAI]:
    """A client of one of the two routes."""
    with openai.OpenAI(
        base_url=server.url + request.param, api_key="none", max_retries=0, timeout=100
    ) as made:
        yield made


def is_legacy(client: openai.OpenAI) -> bool:
    """Whether this is the route with integers for `logprobs`."""
    return "openai" not in str(client.base_url)


def test_completion(client: openai.OpenAI):
    answer = client.completions.create(model="toy", prompt="A")
    assert answer.choices[0].text == "one two three"
    assert answer.choices[0].finish_reason == "stop"
    assert answer.object == "text_completion"
    assert answer.id.startswith("cmpl-")
    if is_legacy(client):
        assert answer.usage is not None
        assert answer.usage.total_tokens == 6


def test_all_parameters(client: openai.OpenAI):
    answer = client.completions.create(
        model="toy",
        prompt=["A", "B"],
        best_of=3,
        echo=True,
        frequency_penalty=0.5,
        logit_bias={"33": 1},
        logprobs=3 if is_legacy(client) else True,  # type: ignore[arg-type]
        max_tokens=20,
        n=2,
        presence_penalty=-0.5,
        seed=7,
        stop=["three", "zzz"],
        stream=False,
        temperature=0.5,
        top_p=0.9,
        user="me",
    )
    assert [choice.index for choice in answer.choices] == [0, 1, 2, 3]
    assert [choice.text for choice in answer.choices] == ["Aone two "] * 2 + ["Babcd"] * 2
    logprobs: Any = answer.choices[0].logprobs
    if is_legacy(client):
        assert logprobs.tokens == ["A", "one ", "tw", "o t", "hree"]
        assert logprobs.text_offset == [0, 1, 5, 7, 10]
        assert logprobs.token_logprobs[0] is None
        assert len(logprobs.top_logprobs[1]) == 3
    else:
        assert [entry["token"] for entry in logprobs.content] == ["one ", "tw", "o t"]


@pytest.mark.parametrize("prompt", ["A", ["A"], [65], [[65]]])
def test_four_forms_of_prompt(client: openai.OpenAI, prompt: Any):
    assert client.completions.create(model="toy", prompt=prompt).choices[0].text == "one two three"


def test_extensions(client: openai.OpenAI):
    extra = {"guided_choice": ["joy", "sadness"]}
    answer = client.completions.create(model="toy", prompt="x", seed=1, extra_body=extra)
    assert answer.choices[0].text in ("joy", "sadness")
    if is_legacy(client):
        extra = {"top_k": 1, "return_token_ids": True}
        answer = client.completions.create(model="toy", prompt="J", extra_body=extra)
        assert answer.choices[0].token_ids == [*answer.choices[0].token_ids[:1], 256]  # type: ignore[attr-defined]


def test_case_101_stream(client: openai.OpenAI):
    stream = client.completions.create(
        model="toy", prompt=["A", "L"], stream=True, stream_options={"include_usage": True}
    )
    *chunks, last = list(stream)
    texts, reasons = ["", ""], []
    for chunk in chunks:
        (choice,) = chunk.choices
        texts[choice.index] += choice.text
        reasons += [choice.finish_reason] if choice.finish_reason else []
    assert texts == ["one two three", "hi \N{GRINNING FACE}!"]
    assert reasons == ["stop", "stop"]
    assert last.choices == []
    assert last.usage is not None
    assert last.usage.prompt_tokens == 2
    assert len({chunk.id for chunk in [*chunks, last]}) == 1


def test_stream_may_be_left(client: openai.OpenAI):
    with client.completions.create(model="toy", prompt="x", stream=True, max_tokens=60) as stream:
        next(iter(stream))
    assert client.completions.create(model="toy", prompt="A").choices[0].text == "one two three"


def test_errors_are_typed(client: openai.OpenAI, toy: LM, monkeypatch: pytest.MonkeyPatch):
    with pytest.raises(openai.BadRequestError) as bad:
        client.completions.create(model="toy", prompt="A", temperature=3)
    message = "`temperature` must be in [0, 2], got 3"
    if is_legacy(client):
        assert message in bad.value.message
        assert bad.value.param == "temperature"
        assert bad.value.type == "invalid_request_error"
    else:
        assert isinstance(bad.value.body, dict)
        assert message in bad.value.body["detail"]
    with pytest.raises(openai.NotFoundError):
        client.completions.create(model="other", prompt="A")
    monkeypatch.setattr(toy.engine, "max_waiting", 0)
    with pytest.raises(openai.RateLimitError) as full:
        client.completions.create(model="toy", prompt="A")
    assert full.value.response.headers["Retry-After"] == "1"


def test_wrong_key_is_an_authentication_error(toy: LM):
    with serve(toy, api_keys=["right"]) as guarded:
        for base in BASES:
            url = guarded.url + base
            with openai.OpenAI(base_url=url, api_key="wrong", max_retries=0) as client:
                with pytest.raises(openai.AuthenticationError):
                    client.completions.create(model="toy", prompt="A")
            with openai.OpenAI(base_url=url, api_key="right", max_retries=0) as client:
                assert client.completions.create(model="toy", prompt="A").choices


def test_case_102_fault_in_mid_stream_is_an_api_error(
    client: openai.OpenAI, monkeypatch: pytest.MonkeyPatch
):
    fail_at_third_token(monkeypatch, EngineFault("A step failed: injected"))
    stream = client.completions.create(model="toy", prompt="A", stream=True)
    with pytest.raises(openai.APIError, match="A step failed"):
        list(stream)


def test_models(client: openai.OpenAI):
    (model,) = client.models.list()
    assert model.id == "toy"
    assert client.models.retrieve("toy") == model
    with pytest.raises(openai.NotFoundError, match="404"):
        client.models.retrieve("other")


def test_client_retries_when_the_queue_was_full(toy: LM, monkeypatch: pytest.MonkeyPatch):
    lm = renamed(toy, "toy")
    with serve(lm) as running:
        client = openai.OpenAI(base_url=running.url + "/v1", api_key="none", max_retries=1)
        slept: list[float] = []

        def sleep(seconds: float) -> None:
            slept.append(seconds)
            monkeypatch.setattr(toy.engine, "max_waiting", 64)

        monkeypatch.setattr(toy.engine, "max_waiting", 0)
        monkeypatch.setattr("openai._base_client.time.sleep", sleep)
        with client:
            answer = client.completions.create(model="toy", prompt="A")
        assert answer.choices[0].text == "one two three"
        assert slept == [1.0], "what Retry-After says"
