"""The shape that OpenAI's and vLLM's clients expect: parallel arrays, usage, `prompt_logprobs`."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from toolkit.completion.record import (
    Alternative,
    ChoiceDelta,
    ChoiceRecord,
    CompletionRecord,
    StreamHead,
    TokenRecord,
    Usage,
)
from toolkit.completion.request import CompletionRequest
from toolkit.completion.response.entries import best, finite, readable, token_logprob, usage_shape
from toolkit.completion.shapes import (
    LegacyChoice,
    LegacyChunk,
    LegacyChunkChoice,
    LegacyCompletion,
    LegacyLogprobs,
    PromptLogprob,
)


def legacy(record: CompletionRecord) -> LegacyCompletion:
    """The answer as `POST /v1/completions` gives it."""
    return {
        "id": record.id,
        "object": "text_completion",
        "created": record.created,
        "model": record.model,
        "choices": [_choice(choice, record) for choice in record.choices],
        "usage": usage_shape(record.usage),
        "system_fingerprint": record.system_fingerprint,
    }


def legacy_chunk(head: StreamHead, delta: ChoiceDelta, usage: Usage | None = None) -> LegacyChunk:
    """One event of a stream. `usage`: the counts so far, sent if the request wants them on each."""
    request = head.request
    choice: LegacyChunkChoice = {
        "index": delta.index,
        "text": delta.text,
        "logprobs": None,
        "finish_reason": delta.finish_reason,
        "stop_reason": delta.stop_reason,
    }
    if request.logprobs is not None and delta.legacy:
        choice["logprobs"] = _arrays(delta.legacy, request, first=delta.legacy_before == 0)
    if request.return_token_ids:
        echoed = (delta.prompt_ids or ())[delta.inserted :] if request.echo else ()
        choice["token_ids"] = _ids(echoed, delta.legacy)
        if delta.prompt_ids is not None:
            choice["prompt_token_ids"] = list(delta.prompt_ids)
    chunk = _chunk(head)
    chunk["choices"] = [choice]
    options = request.stream_options
    if options.include_usage:
        each = usage if options.continuous_usage_stats else None
        chunk["usage"] = None if each is None else usage_shape(each)
    return chunk


def legacy_usage_chunk(head: StreamHead, usage: Usage) -> LegacyChunk:
    """The extra event of `include_usage`, after the last choice has finished."""
    return {**_chunk(head), "usage": usage_shape(usage)}


def _choice(choice: ChoiceRecord, record: CompletionRecord) -> LegacyChoice:
    request, prompt = record.request, record.prompts[choice.prompt_index]
    echoed = choice.prompt_tokens[choice.inserted :] if request.echo else ()
    shape: LegacyChoice = {
        "index": choice.index,
        "text": choice.text,
        "logprobs": None,
        "finish_reason": choice.finish_reason,
        "stop_reason": choice.stop_reason,
        "prompt_logprobs": None,
    }
    if request.logprobs is not None:
        shape["logprobs"] = _arrays((*echoed, *choice.tokens), request, first=True)
    if request.prompt_logprobs is not None:
        shape["prompt_logprobs"] = [_position(token, request) for token in choice.prompt_tokens]
    if request.return_token_ids:
        shape["token_ids"] = _ids(prompt[choice.inserted :] if request.echo else (), choice.tokens)
        shape["prompt_token_ids"] = list(prompt)
    return shape


def _ids(echoed: Sequence[int], tokens: Iterable[TokenRecord]) -> list[int]:
    """Ids in parallel to the arrays: the echoed prompt, then what was sampled."""
    return [*echoed, *(token.id for token in tokens if token.segment == "completion")]


def _arrays(
    tokens: Sequence[TokenRecord], request: CompletionRequest, *, first: bool
) -> LegacyLogprobs:
    """The parallel arrays. With `echo` the first entry of a choice is null, whatever is known."""
    logprobs: list[float | None] = []
    tops: list[dict[str, float] | None] = []
    for token in tokens:
        logprob = token_logprob(token, request)
        hidden = logprob is None or (first and request.echo and not logprobs)
        logprobs.append(None if hidden else logprob)
        tops.append(None if hidden else _table(token, request))
    return {
        "tokens": [_name(token, request) for token in tokens],
        "token_logprobs": logprobs,
        "top_logprobs": tops,
        "text_offset": [token.offset for token in tokens],
    }


def _table(token: TokenRecord, request: CompletionRequest) -> dict[str, float]:
    """The best alternatives and the token itself by name; of equal names the larger value."""
    table: dict[str, float] = {}
    pairs = best(token, request.logprobs or 0, request)
    for item, value in (*pairs, (token, token_logprob(token, request))):
        if value is not None:
            name = _name(item, request)
            table[name] = max(value, table.get(name, -math.inf))
    return table


def _position(token: TokenRecord, request: CompletionRequest) -> dict[str, PromptLogprob] | None:
    """vLLM's entry for a position of the prompt: the actual token first, then the best by rank."""
    if token.logprob is None:
        return None
    ranks = {item.id: rank for rank, item in enumerate(token.top, start=1)}
    rank = ranks.get(token.id, token.rank)
    entries = {str(token.id): _prompt_logprob(token, finite(token.logprob), rank)}
    for item, value in best(token, request.prompt_logprobs or 0, request):
        entries.setdefault(str(item.id), _prompt_logprob(item, value, ranks[item.id]))
    return entries


def _prompt_logprob(
    item: TokenRecord | Alternative, logprob: float, rank: int | None
) -> PromptLogprob:
    return {"logprob": logprob, "rank": rank, "decoded_token": readable(item.bytes)}


def _name(item: TokenRecord | Alternative, request: CompletionRequest) -> str:
    """The token's text; where that is not UTF-8 on its own, its bytes as OpenAI spells them."""
    if request.return_tokens_as_token_ids:
        return f"token_id:{item.id}"
    try:
        return item.bytes.decode()
    except UnicodeDecodeError:
        return "bytes:" + "".join(f"\\x{byte:02x}" for byte in item.bytes)


def _chunk(head: StreamHead) -> LegacyChunk:
    return {
        "id": head.id,
        "object": "text_completion",
        "created": head.created,
        "model": head.model,
        "choices": [],
        "system_fingerprint": head.system_fingerprint,
    }
