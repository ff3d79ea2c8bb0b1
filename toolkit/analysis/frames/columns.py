"""The contract of the frames: each column, its dtype, and what is written into `attrs`.

A value that does not exist is NA (NaN in a float column), never 0.0. Log-probabilities are in nats.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import pandas as pd
import pyarrow as pa

BINARY = pd.ArrowDtype(pa.binary())
SEGMENT = pd.CategoricalDtype(["prompt", "completion", "suffix"])

KEYS: dict[str, Any] = {
    "request_id": "str",
    "prompt_index": "Int32",
    "choice_index": "int32",
}

TOKENS: dict[str, Any] = {
    **KEYS,
    "position": "int32",
    "step": "Int32",
    "segment": SEGMENT,
    "token_id": "Int32",
    "token": "str",
    "token_bytes": BINARY,
    "text_start": "Int32",
    "text_end": "Int32",
    "logprob": "float32",
    "rank": "Int32",
    "entropy": "float32",
    "logprob_sampled": "float32",
    "entropy_sampled": "float32",
    "support": "Int32",
    "kept_mass": "float32",
    "top_token_id": "Int32",
    "top_logprob": "float32",
    "bias": "float32",
    "penalty": "float32",
    "forced": "boolean",
    "special": "boolean",
}

CANDIDATES: dict[str, Any] = {
    **KEYS,
    "position": "int32",
    "candidate_rank": "Int32",
    "token_id": "Int32",
    "token": "str",
    "token_bytes": BINARY,
    "logprob": "float32",
    "logprob_sampled": "float32",
    "chosen": "bool",
    "dropped_by": "str",
}

WORDS: dict[str, Any] = {
    **KEYS,
    "word_index": "int32",
    "segment": SEGMENT,
    "word": "str",
    "first_position": "int32",
    "last_position": "int32",
    "logprob": "float32",
    "logprob_corrected": "float32",
    "correction_error": "float32",
}

PARAMETERS: dict[str, Any] = {
    "max_tokens": "Int32",
    "temperature": "Float64",
    "top_p": "Float64",
    "n": "Int32",
    "best_of": "Int32",
    "seed": "Int64",
    "stop": "str",
    "logprobs": "Int32",
    "echo": "boolean",
    "suffix": "str",
    "frequency_penalty": "Float64",
    "presence_penalty": "Float64",
    "logit_bias": "str",
    "guided_choice": "str",
    "prompt_logprobs": "Int32",
    "top_k": "Int32",
    "min_p": "Float64",
    "typical_p": "Float64",
    "repetition_penalty": "Float64",
    "stop_token_ids": "str",
    "ignore_eos": "boolean",
    "min_tokens": "Int32",
    "add_special_tokens": "boolean",
    "include_stop_str_in_output": "boolean",
    "logprobs_mode": "str",
}
"""Parameters that can change an answer. Lists and maps are JSON."""

REQUESTS: dict[str, Any] = {
    **KEYS,
    "candidate": "Int32",
    "rejected": "boolean",
    "model": "str",
    **{f"param.{name}": dtype for name, dtype in PARAMETERS.items()},
    "prompt": "str",
    "text": "str",
    "finish_reason": "str",
    "stop_reason": "str",
    "prompt_tokens": "Int32",
    "completion_tokens": "Int32",
    "logprob_sum": "float64",
    "logprob_mean": "float64",
    "perplexity": "float64",
    "seed": "Int64",
    "seconds": "float64",
    "ttft": "float64",
    "tokens_per_second": "float64",
    "system_fingerprint": "str",
}

SCHEMAS: dict[str, dict[str, Any]] = {
    "tokens/1": TOKENS,
    "candidates/1": CANDIDATES,
    "words/1": WORDS,
    "requests/1": REQUESTS,
}
"""What `frame.attrs["schema"]` says -> the columns in order."""


def typed(rows: Iterable[Mapping[str, Any]], schema: str) -> pd.DataFrame:
    """Rows as a frame of a schema; a key that a row lacks, and None, are missing values."""
    rows, columns = list(rows), {}
    for name, dtype in SCHEMAS[schema].items():
        values = [row.get(name) for row in rows]
        if isinstance(dtype, str) and dtype.startswith("float"):
            values = [float("nan") if value is None else value for value in values]
        columns[name] = pd.Series(values, dtype=dtype)
    frame = pd.DataFrame(columns)
    frame.attrs["schema"] = schema
    return frame
