"""A record as one line of JSON, and back, bit for bit.

Tokens are stored by column: `{"id": [...], "logprob": [...]}`. Floats that are float32, as all of
the device's are, are written with nine digits, which name a float32 exactly; a column that is not
has its name under "f64". What the request or the tokens say already is not written again.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from toolkit.completion.record import (
    Alternative,
    ChoiceRecord,
    CompletionRecord,
    Timings,
    TokenRecord,
    Usage,
)
from toolkit.completion.request import CompletionRequest

_FLOATS = (
    "logprob",
    "sampling_logprob",
    "entropy",
    "sampling_entropy",
    "kept_mass",
    "bias",
    "penalty",
)
_OTHERS = ("id", "offset", "rank", "support")
_CHOICE = (
    "index",
    "prompt_index",
    "candidate",
    "text",
    "echoed",
    "completion",
    "suffix",
    "inserted",
    "finish_reason",
    "stop_reason",
    "mean_logprob",
)
_DEFAULTS = {"echoed": "", "suffix": "", "inserted": 0, "stop_reason": None, "prompt_index": 0}


def to_json(record: CompletionRecord) -> dict[str, Any]:
    """The record as plain JSON, without its request."""
    prompts: list[tuple[TokenRecord, ...]] = []
    return {
        "id": record.id,
        "created": record.created,
        "model": record.model,
        "seed": record.seed,
        "prompts": [list(ids) for ids in record.prompts],
        "usage": [record.usage.prompt_tokens, record.usage.completion_tokens],
        "timings": [getattr(record.timings, name) for name in Timings.__slots__],
        "system_fingerprint": record.system_fingerprint,
        "choices": [_choice(choice, prompts) for choice in record.choices],
        "rejected": [_choice(choice, prompts) for choice in record.rejected],
        "prompt_tokens": [_columns(tokens) for tokens in prompts],
    }


def from_json(request: CompletionRequest, data: Mapping[str, Any]) -> CompletionRecord:
    """The record that `to_json` wrote, with the request that it answers."""
    prompts = [_tokens(columns, "prompt") for columns in data["prompt_tokens"]]
    return CompletionRecord(
        id=data["id"],
        created=data["created"],
        model=data["model"],
        request=request,
        seed=data["seed"],
        prompts=tuple(tuple(ids) for ids in data["prompts"]),
        choices=tuple(_read_choice(choice, prompts) for choice in data["choices"]),
        rejected=tuple(_read_choice(choice, prompts) for choice in data["rejected"]),
        usage=Usage(prompt_tokens=data["usage"][0], completion_tokens=data["usage"][1]),
        timings=Timings(**dict(zip(Timings.__slots__, data["timings"], strict=True))),
        system_fingerprint=data["system_fingerprint"],
    )


# --- choices --------------------------------------------------------------------------------------


def _choice(choice: ChoiceRecord, prompts: list[tuple[TokenRecord, ...]]) -> dict[str, Any]:
    found = {name: getattr(choice, name) for name in _CHOICE}
    found = {k: v for k, v in found.items() if k not in _DEFAULTS or v != _DEFAULTS[k]}
    found["mean_logprob"] = _spelled(choice.mean_logprob)
    if choice.prompt_tokens:  # the same for all choices of a prompt: written once
        if choice.prompt_tokens not in prompts:
            prompts.append(choice.prompt_tokens)
        found["prompt"] = prompts.index(choice.prompt_tokens)
    found["tokens"] = _columns(choice.tokens)
    return found


def _read_choice(
    data: Mapping[str, Any], prompts: Sequence[tuple[TokenRecord, ...]]
) -> ChoiceRecord:
    fields = _DEFAULTS | {name: data[name] for name in _CHOICE if name in data}
    fields["mean_logprob"] = _number(fields["mean_logprob"])
    return ChoiceRecord(
        **fields,
        prompt_tokens=prompts[data["prompt"]] if "prompt" in data else (),
        tokens=_tokens(data["tokens"], "completion"),
    )


# --- tokens ---------------------------------------------------------------------------------------


def _columns(tokens: Sequence[TokenRecord]) -> dict[str, Any]:
    columns: dict[str, Any] = {
        name: [getattr(token, name) for token in tokens] for name in _OTHERS + _FLOATS
    }
    wide = [name for name in _FLOATS if not _single(columns[name])]
    for name in _FLOATS:
        columns[name] = [_spelled(value, wide=name in wide) for value in columns[name]]
    columns = {name: column for name, column in columns.items() if _says(column)}
    columns["bytes"] = [_text(token.bytes) for token in tokens]
    if not all(token.contributes for token in tokens):
        columns["hidden"] = [i for i, token in enumerate(tokens) if not token.contributes]
    if any(token.special for token in tokens):
        columns["special"] = [i for i, token in enumerate(tokens) if token.special]
    if any(token.top for token in tokens):
        columns["top"] = [_top(token.top) for token in tokens]
    if wide:
        columns["f64"] = wide
    return columns


def _tokens(columns: Mapping[str, Any], segment: Any) -> tuple[TokenRecord, ...]:
    count = len(columns["bytes"])
    wide, hidden = columns.get("f64", ()), frozenset(columns.get("hidden", ()))
    special = frozenset(columns.get("special", ()))
    values = {name: columns.get(name, [None] * count) for name in _OTHERS}
    for name in _FLOATS:
        read = _number if name in wide else _number32
        values[name] = [read(value) for value in columns.get(name, [None] * count)]
    tops = columns.get("top", [()] * count)
    return tuple(
        TokenRecord(
            **{name: column[i] for name, column in values.items()},
            bytes=_bytes(columns["bytes"][i]),
            segment=segment,
            top=_read_top(tops[i]) if tops[i] else (),
            contributes=i not in hidden,
            special=i in special,
        )
        for i in range(count)
    )


def _top(items: Sequence[Alternative]) -> dict[str, Any]:
    logprobs = [item.logprob for item in items]
    sampled = [item.sampling_logprob for item in items]
    wide = not (_single(logprobs) and _single(sampled))
    found: dict[str, Any] = {
        "id": [item.id for item in items],
        "bytes": [_text(item.bytes) for item in items],
        "logprob": [_spelled(value, wide=wide) for value in logprobs],
        "sampled": [_spelled(value, wide=wide) for value in sampled],
        "dropped": [item.dropped_by for item in items],
    }
    found = {name: column for name, column in found.items() if name == "id" or _says(column)}
    return found | ({"f64": True} if wide else {})


def _read_top(columns: Mapping[str, Any]) -> tuple[Alternative, ...]:
    nothing = [None] * len(columns["id"])
    read = _number if columns.get("f64") else _number32
    rows = zip(
        columns["id"],
        columns.get("bytes", nothing),
        columns.get("logprob", nothing),
        columns.get("sampled", nothing),
        columns.get("dropped", nothing),
        strict=True,
    )
    return tuple(
        Alternative(
            id=id_,
            bytes=_bytes(data),
            logprob=read(logprob),
            sampling_logprob=read(sampled),
            dropped_by=dropped,
        )
        for id_, data, logprob, sampled, dropped in rows
    )


# --- values ---------------------------------------------------------------------------------------


def _says(column: Sequence[Any]) -> bool:
    return any(value is not None for value in column)


def _single(values: Iterable[float | None]) -> bool:
    """Whether all numbers are float32."""
    array = np.asarray([value for value in values if value is not None], np.float64)
    with np.errstate(over="ignore"):
        return bool(np.all(array.astype(np.float32).astype(np.float64) == array))


def _spelled(value: float | None, *, wide: bool = True) -> float | str | None:
    """A number as JSON has it; JSON has no infinity."""
    if value is None:
        return None
    if not math.isfinite(value):
        return str(value)
    return value if wide else float(f"{value:.9g}")


def _number(value: Any) -> Any:
    return None if value is None else float(value)


def _number32(value: Any) -> Any:
    return None if value is None else float(np.float32(value))


def _text(data: bytes) -> str | list[str]:
    """Bytes as text; those that are no UTF-8 in a list, as base 64."""
    try:
        return data.decode()
    except UnicodeDecodeError:
        return [base64.b64encode(data).decode()]


def _bytes(text: str | list[str]) -> bytes:
    return text.encode() if isinstance(text, str) else base64.b64decode(text[0])
