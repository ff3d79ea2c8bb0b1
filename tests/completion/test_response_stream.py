"""Both serialisers on the events of a stream. Cases are those of the contract, section 6."""

from __future__ import annotations

import dataclasses
from typing import Any

import jsonschema

from tests.completion.records import AB, PROMPT, USAGE, choice, content, head, record
from toolkit.completion.record import ChoiceDelta
from toolkit.completion.request import Dialect
from toolkit.completion.response import (
    legacy,
    legacy_chunk,
    legacy_usage_chunk,
    strict,
    strict_chunk,
    strict_usage_chunk,
)

FIRST = ChoiceDelta(index=1, text="a", strict=AB[:1], legacy=AB, prompt_ids=(104, 105))
LAST = ChoiceDelta(
    index=1, text="b", strict=AB[1:], legacy_before=2, finish_reason="stop", stop_reason="c"
)


def test_strict_chunks():
    chunk = strict_chunk(head(Dialect.STRICT, logprobs=True), FIRST)
    choice = chunk["choices"][0]
    assert (choice["index"], choice["text"], choice["finish_reason"]) == (1, "a", None)
    assert [entry["token"] for entry in content(chunk)] == ["a"]
    assert chunk.keys() == {"id", "object", "created", "model", "choices"}
    assert "logprobs" not in strict_chunk(head(Dialect.STRICT), FIRST)["choices"][0]
    empty = strict_chunk(head(Dialect.STRICT, logprobs=True), ChoiceDelta(index=0, text="a"))
    assert "logprobs" not in empty["choices"][0]


def test_strict_chunks_fit_the_schema_once_finished(specification: dict[str, Any]):
    schema = specification["responses"]["200"]["content"]["application/json"]["schema"]
    jsonschema.validate(strict_chunk(head(Dialect.STRICT, logprobs=True), LAST), schema)


def test_legacy_chunks():
    chunk = legacy_chunk(head(logprobs=0), FIRST)
    assert chunk["choices"] == [
        {
            "index": 1,
            "text": "a",
            "logprobs": {
                "tokens": ["a", "b"],
                "token_logprobs": [-1.0, -0.25],
                "top_logprobs": [{"a": -1.0}, {"b": -0.25}],
                "text_offset": [0, 1],
            },
            "finish_reason": None,
            "stop_reason": None,
        }
    ]
    assert (chunk["system_fingerprint"], "usage" in chunk) == ("fp-1", False)
    last = legacy_chunk(head(logprobs=0), LAST)["choices"][0]
    assert (last["logprobs"], last["finish_reason"], last["stop_reason"]) == (None, "stop", "c")
    assert legacy_chunk(head(), FIRST)["choices"][0]["logprobs"] is None


def test_case_81_chunks_together_are_the_whole():
    prompt = PROMPT[1:]
    tokens = tuple(dataclasses.replace(token, offset=token.offset + 2) for token in AB)
    whole = record(
        choice(*tokens, text="hyab", prompt_tokens=PROMPT, inserted=1),
        echo=True,
        logprobs=1,
        return_token_ids=True,
    )
    ids = (1, 104, 121)
    whole = dataclasses.replace(whole, prompts=(ids,))
    deltas = [
        ChoiceDelta(index=0, text="hy", strict=prompt, legacy=prompt, prompt_ids=ids, inserted=1),
        ChoiceDelta(index=0, text="", legacy=tokens[:1], legacy_before=2),
        ChoiceDelta(index=0, text="ab", strict=tokens, legacy=tokens[1:], legacy_before=3),
        ChoiceDelta(index=0, legacy_before=4, finish_reason="length"),
    ]
    shared = head(echo=True, logprobs=1, return_token_ids=True)
    pieces = [legacy_chunk(shared, delta)["choices"][0] for delta in deltas]
    shape = legacy(whole)["choices"][0]
    assert shape["logprobs"] is not None
    for name, values in shape["logprobs"].items():
        parts = [piece["logprobs"][name] for piece in pieces if piece["logprobs"]]  # type: ignore[literal-required]
        assert [item for part in parts for item in part] == values
    assert [i for piece in pieces for i in piece.get("token_ids", [])] == shape.get("token_ids")
    assert [piece.get("prompt_token_ids") for piece in pieces] == [list(ids), None, None, None]
    assert pieces[0]["logprobs"]["token_logprobs"][0] is None  # type: ignore[index]

    chunks = [strict_chunk(shared, delta)["choices"][0] for delta in deltas]
    entries = [e for c in chunks for e in c.get("logprobs", {"content": []})["content"]]
    assert entries == content(strict(whole))
    assert "".join(c["text"] for c in chunks) == "hyab"


def test_case_81_token_ids_of_an_echo_without_logprobs():
    shared = head(echo=True, return_token_ids=True)
    first = dataclasses.replace(FIRST, prompt_ids=(1, 104), inserted=1)
    assert legacy_chunk(shared, first)["choices"][0].get("token_ids") == [104, 97, 98]


def test_case_100_usage_events():
    counts = {"prompt_tokens": 2, "completion_tokens": 3, "total_tokens": 5}
    asked = head(stream_options={"include_usage": True})
    assert legacy_chunk(asked, FIRST, USAGE).get("usage", "absent") is None
    last = legacy_usage_chunk(asked, USAGE)
    assert (last["choices"], last.get("usage")) == ([], counts)
    last = strict_usage_chunk(head(Dialect.STRICT), USAGE)
    assert (last["choices"], last.get("usage")) == ([], counts)

    each = {"include_usage": True, "continuous_usage_stats": True}
    assert legacy_chunk(head(stream_options=each), FIRST, USAGE).get("usage") == counts
    assert "usage" not in legacy_chunk(head(), FIRST, USAGE)
    each["include_usage"] = False
    assert "usage" not in legacy_chunk(head(stream_options=each), FIRST, USAGE)


def test_case_101_events_share_their_head():
    shared = head()
    events = [legacy_chunk(shared, FIRST), legacy_usage_chunk(shared, USAGE)]
    events += [strict_chunk(shared, FIRST), strict_usage_chunk(shared, USAGE)]
    assert len({(e["id"], e["created"], e["model"], e["object"]) for e in events}) == 1
