"""From a record to what is sent: pure functions, one file a dialect.

entries.py         how a token and its log-probability are reported
strict_answer.py   the specification's shape
legacy_answer.py   the shape of OpenAI's and vLLM's clients
errors.py          error bodies of both, and the one inside a stream
"""

from __future__ import annotations

from toolkit.completion.response.errors import (
    error_status,
    legacy_error,
    legacy_error_body,
    stream_error,
    strict_error,
    strict_error_body,
)
from toolkit.completion.response.legacy_answer import legacy, legacy_chunk, legacy_usage_chunk
from toolkit.completion.response.strict_answer import (
    scored_prompt_tokens,
    strict,
    strict_chunk,
    strict_usage_chunk,
)

__all__ = [
    "error_status",
    "legacy",
    "legacy_chunk",
    "legacy_error",
    "legacy_error_body",
    "legacy_usage_chunk",
    "scored_prompt_tokens",
    "stream_error",
    "strict",
    "strict_chunk",
    "strict_error",
    "strict_error_body",
    "strict_usage_chunk",
]
