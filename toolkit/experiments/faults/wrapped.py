"""A target in front of another that changes what goes in or what comes out."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from toolkit.errors import InvalidRequest
from toolkit.experiments.target import Answer, Events, Streaming, Target
from toolkit.experiments.target.named import as_target


class Wrapped:
    """Asks another target; the faults override what they change."""

    fault = "unchanged"

    def __init__(self, target: Any):
        self.target: Target = as_target(target)
        self.name = f"{self.target.name}, {self.fault}"
        self.dialect = getattr(self.target, "dialect", "legacy")

    def complete(self, fields: Mapping[str, Any]) -> Answer:
        """Ask once; see `Target.complete`."""
        answer = self.target.complete(self.asked(fields))
        return dataclasses.replace(answer, body=self.told(answer, fields), record=None)

    def stream(self, fields: Mapping[str, Any]) -> Events:
        """Ask once for events. Only what goes in is changed."""
        if not isinstance(self.target, Streaming):
            raise InvalidRequest(f"{self.target.name} gives no pieces.", param="stream")
        return self.target.stream(self.asked(fields))

    def asked(self, fields: Mapping[str, Any]) -> Mapping[str, Any]:
        """The fields that go on."""
        return fields

    def told(self, answer: Answer, fields: Mapping[str, Any]) -> dict[str, Any]:
        """The body that goes back."""
        return answer.body

    def tokenize(self, text: str) -> list[int] | None:
        """The ids of a string prompt."""
        return self.target.tokenize(text)

    def identity(self) -> dict[str, Any]:
        """The wrapped target's, and the fault."""
        return {**self.target.identity(), "fault": self.fault}

    def close(self) -> None:
        """Close the wrapped target."""
        self.target.close()

    def __repr__(self) -> str:
        return f"<{self.name}>"


def prompts_of(fields: Mapping[str, Any]) -> list[Any]:
    """The prompts of a request, one or more."""
    prompt = fields["prompt"]
    one = isinstance(prompt, str) or (prompt and isinstance(prompt[0], int))
    return [prompt] if one else list(prompt)


def ids_of(target: Target, prompt: str | list[int]) -> list[int]:
    """The ids of a prompt. Raises InvalidRequest where nobody tells them."""
    ids = target.tokenize(prompt) if isinstance(prompt, str) else list(prompt)
    if ids is None:
        raise InvalidRequest(f"{target.name} has no route that tokenises.", param="target")
    return ids
