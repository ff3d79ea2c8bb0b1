"""Section 6, cases 37, 81, 100 and 101: a stream and the whole answer say the same."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.contract.strategies import asked, of_strict
from tests.contract.surfaces import (
    P,
    joined,
    legacy_answer,
    legacy_events,
    pieces,
    record_of,
    strict_answer,
    strict_events,
)
from tests.contract.toys import CONTEXT, EOS
from toolkit.completion.complete import LM

pytestmark = pytest.mark.filterwarnings("ignore:Do not use the `random` module inside strategies")
"""Not the strategies do: beartype does, in the engine's thread, while the next example is drawn."""


@given(asked(), st.sampled_from([None, 0, 2]), st.booleans())
@settings(max_examples=150)
@example({"prompt": "E", "stop": ["own fox"], "include_stop_str_in_output": True, "n": 2}, 1, True)
def test_case_81_a_legacy_stream_adds_up(
    toy: LM, fields: dict[str, Any], logprobs: int | None, with_ids: bool
):
    fields = {**fields, "logprobs": logprobs, "return_token_ids": with_ids}
    prompt = fields.pop("prompt")
    whole = legacy_answer(toy, prompt, **fields)
    *events, last = legacy_events(toy, prompt, **fields, stream_options={"include_usage": True})
    added = joined(events)
    for choice in whole["choices"]:
        del choice["prompt_logprobs"]
        if choice["logprobs"] and not choice["logprobs"]["tokens"]:
            choice["logprobs"] = None
    assert [added[index] for index in range(len(added))] == whole["choices"]
    assert last["usage"] == whole["usage"]


@given(asked(), st.booleans())
@settings(max_examples=100)
def test_case_81_a_strict_stream_adds_up(toy: LM, fields: dict[str, Any], logprobs: bool):
    fields = {**of_strict(fields), "logprobs": logprobs}
    prompt = fields.pop("prompt")
    whole = strict_answer(toy, prompt, **fields)["choices"]
    added = joined(strict_events(toy, prompt, **fields))
    for choice in whole:
        if not choice.get("logprobs", {}).get("content"):
            choice["logprobs"] = None
    assert [added[index] for index in range(len(added))] == whole


def test_case_101_events_share_their_head(toy: LM):
    asked = {"stream_options": {"include_usage": True}}
    for stream in (strict_events, legacy_events):
        events = stream(toy, ["A", "J"], n=2, **asked)
        for name in ("id", "object", "created", "model"):
            assert len({event[name] for event in events}) == 1
        assert events[0]["id"].startswith("cmpl-")
        assert events[0]["id"] != stream(toy, "A")[0]["id"]
    python = list(toy.stream("A", seed=1))
    assert len({chunk["id"] for chunk in python}) == 1
    assert [set(chunk) for chunk in python] == [{"id", "object", "created", "model", "choices"}] * 5


def test_every_event_says_something(toy: LM):
    for prompt, fields in (("E", {"stop": "own fox"}), ("L", {}), ("I", {})):
        for event in strict_events(toy, prompt, n=2, **fields):
            (choice,) = event["choices"]
            assert choice["text"] or choice["finish_reason"]
        for event in strict_events(toy, prompt, n=2, logprobs=True, **fields):
            (choice,) = event["choices"]
            assert choice["text"] or choice["finish_reason"] or choice["logprobs"]["content"]


def test_python_streams_are_strict_streams(toy: LM):
    fields = {"n": 2, "seed": 3, "logprobs": True}
    python = list(toy.stream("q", **fields))
    assert joined(python) == joined(strict_events(toy, "q", **fields))
    with_five = list(toy.stream("A", logprobs=5))
    assert len(with_five[0]["choices"][0]["logprobs"]["content"][0]["top_logprobs"]) == 5


def test_a_stream_begins_before_the_end(toy: LM):
    stream = toy.stream(["q"] * 8, max_tokens=CONTEXT - 1, seed=1, logit_bias={str(EOS): -100})
    chunks = list(itertools.islice(stream, 3))
    assert all(chunk["choices"][0]["finish_reason"] is None for chunk in chunks)
    stream.close()


@pytest.mark.parametrize("fields", [{"best_of": 3}, {"prompt_logprobs": 1}])
def test_what_cannot_stream_is_refused_at_once(toy: LM, fields: dict[str, Any]):
    with pytest.raises(Exception, match="stream"):
        toy.stream("A", **fields)
    assert pieces(list(toy.stream("J"))) == ["ok", ""]
    assert record_of(toy, "A", P).request.stream is False
