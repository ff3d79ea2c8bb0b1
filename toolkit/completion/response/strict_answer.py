"""The specification's shape. Functions of a record, or of what one event of a stream adds."""

from __future__ import annotations

from collections.abc import Iterable

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
from toolkit.completion.response.entries import (
    best,
    prompt_count,
    readable,
    token_logprob,
    usage_shape,
)
from toolkit.completion.shapes import (
    StrictChoice,
    StrictChunk,
    StrictChunkChoice,
    StrictCompletion,
    StrictTokenLogprob,
    StrictTopLogprob,
)


def strict(record: CompletionRecord) -> StrictCompletion:
    """The answer in exactly the specification's members."""
    return {
        "id": record.id,
        "object": "text_completion",
        "created": record.created,
        "model": record.model,
        "choices": [_choice(choice, record.request) for choice in record.choices],
    }


def strict_chunk(head: StreamHead, delta: ChoiceDelta) -> StrictChunk:
    """One event of a stream. `logprobs` is absent where the event adds no entry."""
    choice: StrictChunkChoice = {
        "index": delta.index,
        "text": delta.text,
        "finish_reason": delta.finish_reason,
    }
    content = _content(delta.strict, head.request) if head.request.logprobs is not None else []
    if content:
        choice["logprobs"] = {"content": content}
    return {**_chunk(head), "choices": [choice]}


def strict_usage_chunk(head: StreamHead, usage: Usage) -> StrictChunk:
    """The extra event of `include_usage`, the only one whose `usage` the schema does not know."""
    return {**_chunk(head), "usage": usage_shape(usage)}


def scored_prompt_tokens(choice: ChoiceRecord, request: CompletionRequest) -> list[TokenRecord]:
    """The tokens of the prompt that stand in front of `logprobs.content`.

    A first token that nothing conditions is left out: the schema wants a number and there is none.
    """
    echoed = request.echo and request.logprobs is not None
    if request.prompt_logprobs is None and not echoed:
        return []
    return [token for token in choice.prompt_tokens[choice.inserted :] if token.logprob is not None]


def _choice(choice: ChoiceRecord, request: CompletionRequest) -> StrictChoice:
    shape: StrictChoice = {
        "index": choice.index,
        "text": choice.text,
        "finish_reason": choice.finish_reason,
    }
    tokens = scored_prompt_tokens(choice, request)
    if request.logprobs is not None:
        tokens += [token for token in choice.tokens if token.contributes]
    if request.logprobs is not None or request.prompt_logprobs is not None:
        shape["logprobs"] = {"content": _content(tokens, request)}
    return shape


def _content(tokens: Iterable[TokenRecord], request: CompletionRequest) -> list[StrictTokenLogprob]:
    entries = (_entry(token, request) for token in tokens)
    return [entry for entry in entries if entry is not None]


def _entry(token: TokenRecord, request: CompletionRequest) -> StrictTokenLogprob | None:
    logprob = token_logprob(token, request)
    if logprob is None:
        return None
    count = prompt_count(request) if token.segment == "prompt" else request.logprobs or 0
    top: list[StrictTopLogprob] = [
        {"token": _name(item, request), "bytes": list(item.bytes), "logprob": value}
        for item, value in best(token, count, request)
    ]
    return {
        "token": _name(token, request),
        "bytes": list(token.bytes),
        "logprob": logprob,
        "top_logprobs": top,
    }


def _name(item: TokenRecord | Alternative, request: CompletionRequest) -> str:
    return f"token_id:{item.id}" if request.return_tokens_as_token_ids else readable(item.bytes)


def _chunk(head: StreamHead) -> StrictChunk:
    return {
        "id": head.id,
        "object": "text_completion",
        "created": head.created,
        "model": head.model,
        "choices": [],
    }
