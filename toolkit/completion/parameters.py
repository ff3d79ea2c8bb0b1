"""The keyword arguments of `complete` and `stream`, once, for editors and type checkers.

Meaning, range and default of each stand in `toolkit.completion.request.CompletionRequest`, which a
test holds equal to this list. `None` always means "as if not given".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypedDict


class Parameters(TypedDict, total=False):
    """What a completion can be asked for, beside its prompt."""

    model: str | None
    max_tokens: int | None
    temperature: float | None
    top_p: float | None
    n: int | None
    best_of: int | None
    seed: int | None
    stop: str | Sequence[str] | None
    logprobs: bool | int | None
    echo: bool | None
    suffix: str | None
    frequency_penalty: float | None
    presence_penalty: float | None
    logit_bias: Mapping[Any, float] | None
    guided_choice: Sequence[str] | None
    prompt_logprobs: int | None
    stream: bool | None
    stream_options: Mapping[str, Any] | None
    user: str | None
    top_k: int | None
    min_p: float | None
    typical_p: float | None
    repetition_penalty: float | None
    stop_token_ids: Sequence[int] | None
    ignore_eos: bool | None
    min_tokens: int | None
    add_special_tokens: bool | None
    include_stop_str_in_output: bool | None
    return_token_ids: bool | None
    return_tokens_as_token_ids: bool | None
    logprobs_mode: Literal["raw", "processed"] | None
    details: bool | None
