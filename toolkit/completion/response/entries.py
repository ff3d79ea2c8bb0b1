"""How a token, its log-probability and its alternatives are reported, in both dialects."""

from __future__ import annotations

import math

from toolkit.completion.record import Alternative, TokenRecord, Usage
from toolkit.completion.request import CompletionRequest
from toolkit.completion.shapes import UsageShape
from toolkit.errors import EngineFault

MINUS_INFINITY = -9999.0
"""Stands for a log-probability of minus infinity, which JSON has no number for."""


def finite(value: float) -> float:
    """A float that JSON can hold. Raises EngineFault for NaN and plus infinity."""
    if math.isfinite(value):
        return float(value)
    if value == -math.inf:
        return MINUS_INFINITY
    raise EngineFault(f"A log-probability is {value}. The model's weights may be damaged.")


def token_logprob(token: TokenRecord, request: CompletionRequest) -> float | None:
    """A token's log-probability as the request wants it; None for an unconditioned first one."""
    if _is_processed(token, request):
        return finite(_drawn_from(token))
    return None if token.logprob is None else finite(token.logprob)


def best(
    token: TokenRecord, count: int, request: CompletionRequest
) -> list[tuple[Alternative, float]]:
    """The first `count` alternatives (-1: all) with their log-probabilities.

    The token itself among them has its own value, to the last bit.
    """
    own, processed = token_logprob(token, request), _is_processed(token, request)

    def value(item: Alternative) -> float:
        if item.id == token.id and own is not None:
            return own
        return finite(_drawn_from(item) if processed else item.logprob)

    top = token.top if count < 0 else token.top[:count]
    return [(item, value(item)) for item in top]


def _is_processed(token: TokenRecord, request: CompletionRequest) -> bool:
    """Whether to report the distribution drawn from. Tokens of a prompt were not drawn."""
    return request.logprobs_mode == "processed" and token.segment == "completion"


def _drawn_from(item: TokenRecord | Alternative) -> float:
    if item.sampling_logprob is None:
        raise EngineFault(f"Token {item.id} has no `sampling_logprob`; processed ones were asked.")
    return item.sampling_logprob


def prompt_count(request: CompletionRequest) -> int:
    """How many alternatives each token of the prompt shows where one list serves both askers."""
    counts = [request.prompt_logprobs]
    if request.echo:
        counts.append(request.logprobs)
    asked = [count for count in counts if count is not None]
    return -1 if -1 in asked else max(asked, default=0)


def readable(data: bytes) -> str:
    """The bytes of a token as text, with U+FFFD for what is not UTF-8 on its own."""
    return data.decode(errors="replace")


def usage_shape(usage: Usage) -> UsageShape:
    """The counts as both dialects send them."""
    return {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.total_tokens,
    }
