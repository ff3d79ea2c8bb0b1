"""The one place that validates: from the fields of a request to a `CompletionRequest`.

dialect.py   the three surfaces and the limits that a server may set
rules.py     types and ranges of one value
prompt.py    the four forms of `prompt`
fields.py    CompletionRequest: one field a parameter, with its rule and default
parse.py     `parse`: unknown fields, types, model, ranges, combinations, in this order
tokens.py    `check_tokens`: what needs the vocabulary and the context; `sampling_params`
"""

from __future__ import annotations

from toolkit.completion.request.dialect import DEFAULT_LIMITS, Dialect, Limits
from toolkit.completion.request.fields import (
    DEFAULT_MAX_TOKENS,
    CompletionRequest,
    StreamOptions,
    parameter_names,
)
from toolkit.completion.request.parse import parse
from toolkit.completion.request.prompt import Prompt
from toolkit.completion.request.tokens import check_tokens, sampling_params

__all__ = [
    "DEFAULT_LIMITS",
    "DEFAULT_MAX_TOKENS",
    "CompletionRequest",
    "Dialect",
    "Limits",
    "Prompt",
    "StreamOptions",
    "check_tokens",
    "parameter_names",
    "parse",
    "sampling_params",
]
