"""What can be asked for completions: an engine in this process, or anybody's server."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

from toolkit.completion.record import CompletionRecord


@dataclasses.dataclass(frozen=True, kw_only=True)
class Answer:
    """One answer as it came, and how long it took."""

    body: dict[str, Any]
    """The strict or the legacy JSON shape, whichever the target speaks; nothing is added to it."""
    record: CompletionRecord | None = None
    """The whole record; None where the answer came from a server."""
    seconds: float
    """From sending the request to having the whole answer."""
    first_token: float | None = None
    """Seconds until the first token; None where that was not seen."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Events:
    """One answer that came in pieces."""

    chunks: tuple[dict[str, Any], ...]
    """The events in order, `[DONE]` left out."""
    done: bool
    """Whether `[DONE]` ended the stream."""
    seconds: float
    first_token: float | None
    """Seconds until the first event with text; None if there was none."""
    content_type: str | None = None
    """None where there was no HTTP."""


@runtime_checkable
class Target(Protocol):
    """Whatever completes prompts. Any method may be called from any thread."""

    @property
    def name(self) -> str:
        """How tables call it."""
        ...

    def complete(self, fields: Mapping[str, Any]) -> Answer:
        """Ask once. `fields`: those of the completion contract, `prompt` among them; None is as if
        not given.

        Raises InvalidRequest where the engine here refuses, TargetError where a server does or
        fails; its `retry` says whether the same request may succeed later.
        """
        ...

    def tokenize(self, text: str) -> list[int] | None:
        """The ids that a string prompt becomes, BOS included; None where nobody tells."""
        ...

    def identity(self) -> dict[str, Any]:
        """What decides the answers. Plain JSON.

        Of an engine: sums of weights and tokenizer and the version of the sampler; of a server:
        address and model. What stands under "says" only describes: it may differ between two calls
        and does not belong in the name of a result.
        """
        ...

    def close(self) -> None:
        """Give connections back. May be called twice; a model that was passed in stays open."""
        ...


@runtime_checkable
class Streaming(Protocol):
    """A target that also answers in pieces."""

    def stream(self, fields: Mapping[str, Any]) -> Events:
        """Ask once and read the events to the end. Raises as `Target.complete`."""
        ...
