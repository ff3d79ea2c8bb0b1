"""Faults in what is reported: log-probabilities of another distribution, offsets in bytes."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from toolkit.experiments.faults.wrapped import Wrapped
from toolkit.experiments.reading import choices
from toolkit.experiments.target import Answer


def scaled_logprobs(target: Any) -> Wrapped:
    """Log-probabilities are those of the distribution drawn from: after temperature, and after
    truncation. At temperature 0 they are the model's own. The target must know `logprobs_mode`."""
    return _ScaledLogprobs(target)


def byte_offsets(target: Any) -> Wrapped:
    """`text_offset` counts bytes where it should count characters."""
    return _ByteOffsets(target)


class _ScaledLogprobs(Wrapped):
    fault = "scaled logprobs"

    def asked(self, fields: Mapping[str, Any]) -> Mapping[str, Any]:
        if fields.get("logprobs") in (None, False) or fields.get("temperature") == 0:
            return fields
        return {**fields, "logprobs_mode": "processed"}


class _ByteOffsets(Wrapped):
    fault = "byte offsets"

    def told(self, answer: Answer, fields: Mapping[str, Any]) -> dict[str, Any]:
        body = copy.deepcopy(answer.body)
        for shape, choice in zip(body["choices"], choices(answer), strict=True):
            logprobs = shape.get("logprobs") or {}
            if logprobs.get("text_offset"):
                place = len(shape["text"][: logprobs["text_offset"][0]].encode())
                for i, token in enumerate(choice.tokens):
                    logprobs["text_offset"][i] = place
                    place += len(token.data)
        return body
