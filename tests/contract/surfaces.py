"""What the two HTTP routes will answer, without HTTP: read a body, run it, serialise it.

Everything passes through strict JSON on its way, and legacy arrays are checked to be parallel.
"""

from __future__ import annotations

import json
from typing import Any

from toolkit.completion.complete import LM
from toolkit.completion.record import CompletionRecord
from toolkit.completion.request import CompletionRequest, Dialect, parse
from toolkit.completion.response import (
    legacy,
    legacy_chunk,
    legacy_usage_chunk,
    strict,
    strict_chunk,
    strict_usage_chunk,
)
from toolkit.completion.run import Run

S, L, P = Dialect.STRICT, Dialect.LEGACY, Dialect.PYTHON
Answer = dict[str, Any]


def request_of(lm: LM, prompt: Any, dialect: Dialect, **fields: Any) -> CompletionRequest:
    """A request to the model by the name "toy"."""
    body = {"model": "toy", "prompt": prompt, **fields}
    return parse(body, dialect=dialect, limits=lm.limits, known_models={"toy"})


def record_of(lm: LM, prompt: Any, dialect: Dialect = P, **fields: Any) -> CompletionRecord:
    """The record of a request run to its end."""
    return lm.run(request_of(lm, prompt, dialect, **fields))


def strict_answer(lm: LM, prompt: Any, **fields: Any) -> Answer:
    """The body of the strict route's answer."""
    return as_sent(strict(record_of(lm, prompt, S, **fields)))


def legacy_answer(lm: LM, prompt: Any, **fields: Any) -> Answer:
    """The body of the legacy route's answer."""
    answer = as_sent(legacy(record_of(lm, prompt, L, **fields)))
    for choice in answer["choices"]:
        _check_parallel(choice)
    return answer


def strict_events(lm: LM, prompt: Any, **fields: Any) -> list[Answer]:
    """The events of the strict route's stream, `[DONE]` left out."""
    run = Run(lm, request_of(lm, prompt, S, stream=True, **fields))
    events = [as_sent(strict_chunk(run.head, delta)) for delta in run.deltas()]
    if run.request.stream_options.include_usage:
        events.append(as_sent(strict_usage_chunk(run.head, run.usage)))
    return events


def legacy_events(lm: LM, prompt: Any, **fields: Any) -> list[Answer]:
    """The events of the legacy route's stream, `[DONE]` left out."""
    run = Run(lm, request_of(lm, prompt, L, stream=True, **fields))
    events = [as_sent(legacy_chunk(run.head, delta, run.usage)) for delta in run.deltas()]
    for event in events:
        _check_parallel(event["choices"][0])
    if run.request.stream_options.include_usage:
        events.append(as_sent(legacy_usage_chunk(run.head, run.usage)))
    return events


def as_sent(body: Any) -> Answer:
    """What a client reads: JSON without NaN, parsed again."""
    return json.loads(json.dumps(body, allow_nan=False))


def pieces(events: list[Answer], index: int = 0) -> list[str]:
    """The texts of one choice's events, in order."""
    return [c["text"] for event in events for c in event["choices"] if c["index"] == index]


def joined(events: list[Answer]) -> dict[int, Answer]:
    """The choices that the events of a stream add up to, by index."""
    whole: dict[int, Answer] = {}
    for choice in (c for event in events for c in event["choices"]):
        index = choice["index"]
        known = whole.setdefault(index, {"index": index, "text": "", "logprobs": None})
        assert known.get("finish_reason") is None, "nothing comes after the last event"
        known["text"] += choice["text"]
        known["logprobs"] = _appended(known["logprobs"], choice.get("logprobs"))
        if "token_ids" in choice:
            known["token_ids"] = known.get("token_ids", []) + choice["token_ids"]
        known |= {name: choice[name] for name in ONCE if name in choice}
    return whole


ONCE = ("finish_reason", "stop_reason", "prompt_token_ids")
ARRAYS = ("tokens", "token_logprobs", "top_logprobs", "text_offset")


def _appended(known: Answer | None, more: Answer | None) -> Answer | None:
    if not (known and more):
        return known or more
    return {name: known[name] + more[name] for name in known}


def _check_parallel(choice: Answer) -> None:
    logprobs = choice["logprobs"]
    if logprobs is not None:
        assert tuple(logprobs) == ARRAYS
        assert len({len(logprobs[name]) for name in ARRAYS}) == 1
        assert len(choice.get("token_ids", logprobs["tokens"])) == len(logprobs["tokens"])
