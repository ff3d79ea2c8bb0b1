"""The shapes of answers: the specification's (strict) and that of OpenAI's clients (legacy)."""

from __future__ import annotations

from typing import Literal, NotRequired, TypedDict

FinishReason = Literal["stop", "length"]


class StrictTopLogprob(TypedDict):
    """An alternative at a position."""

    token: str
    bytes: list[int]
    logprob: float


class StrictTokenLogprob(TypedDict):
    """A token of `logprobs.content`."""

    token: str
    bytes: list[int]
    logprob: float
    top_logprobs: list[StrictTopLogprob]


class StrictLogprobs(TypedDict):
    """Scored tokens of the prompt, then the tokens of the completion."""

    content: list[StrictTokenLogprob]


class StrictChoice(TypedDict):
    """A choice; `logprobs` is absent unless asked for."""

    index: int
    text: str
    logprobs: NotRequired[StrictLogprobs]
    finish_reason: FinishReason


class StrictCompletion(TypedDict):
    """The specification's answer."""

    id: str
    object: Literal["text_completion"]
    created: int
    model: str
    choices: list[StrictChoice]


class StrictChunkChoice(TypedDict):
    """A piece of a choice; `finish_reason` is null until its last piece."""

    index: int
    text: str
    logprobs: NotRequired[StrictLogprobs]
    finish_reason: FinishReason | None


class UsageShape(TypedDict):
    """Token counts."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class StrictChunk(TypedDict):
    """An event of a strict stream; only the extra one of `include_usage` carries `usage`."""

    id: str
    object: Literal["text_completion"]
    created: int
    model: str
    choices: list[StrictChunkChoice]
    usage: NotRequired[UsageShape]


class LegacyLogprobs(TypedDict):
    """Arrays of equal length, one entry for each echoed or sampled token."""

    tokens: list[str]
    token_logprobs: list[float | None]
    top_logprobs: list[dict[str, float] | None]
    text_offset: list[int]


class PromptLogprob(TypedDict):
    """vLLM's entry for one token at a position of the prompt."""

    logprob: float
    rank: int | None
    decoded_token: str


class LegacyChoice(TypedDict):
    """A choice; the ids are there if `return_token_ids` asked for them."""

    index: int
    text: str
    logprobs: LegacyLogprobs | None
    finish_reason: FinishReason
    stop_reason: str | int | None
    prompt_logprobs: list[dict[str, PromptLogprob] | None] | None
    token_ids: NotRequired[list[int]]
    prompt_token_ids: NotRequired[list[int]]


class LegacyCompletion(TypedDict):
    """The answer that OpenAI's and vLLM's clients expect."""

    id: str
    object: Literal["text_completion"]
    created: int
    model: str
    choices: list[LegacyChoice]
    usage: UsageShape
    system_fingerprint: str | None


class LegacyChunkChoice(TypedDict):
    """A piece of a choice; `prompt_token_ids` is on the first one only."""

    index: int
    text: str
    logprobs: LegacyLogprobs | None
    finish_reason: FinishReason | None
    stop_reason: str | int | None
    token_ids: NotRequired[list[int]]
    prompt_token_ids: NotRequired[list[int]]


class LegacyChunk(TypedDict):
    """An event of a legacy stream; with `include_usage` all carry `usage`, null but on the last."""

    id: str
    object: Literal["text_completion"]
    created: int
    model: str
    choices: list[LegacyChunkChoice]
    system_fingerprint: str | None
    usage: NotRequired[UsageShape | None]


class StrictError(TypedDict):
    """The specification's error."""

    status: int
    title: str
    detail: str
    instance: NotRequired[str]


class LegacyErrorDetail(TypedDict):
    """What went wrong, as OpenAI's clients read it."""

    message: str
    type: str
    param: str | None
    code: str | None


class LegacyError(TypedDict):
    """The legacy error."""

    error: LegacyErrorDetail


class StreamErrorDetail(TypedDict):
    """An error after the first byte: the keys of both dialects."""

    message: str
    type: str
    code: str | None
    status: int
    title: str
    detail: str


class StreamError(TypedDict):
    """The event that ends a stream which failed."""

    error: StreamErrorDetail
