"""What is asked of the engine (`Job`) and what comes back while it runs (events). No text here."""

from __future__ import annotations

import dataclasses
import queue
from collections.abc import Mapping
from typing import Literal

import jax
import numpy as np

from toolkit.errors import EngineFault, ToolkitError
from toolkit.sampling.guide import Guide
from toolkit.sampling.params import Report, SamplingParams

OTHERWISE = (
    "A step failed for a neighbour, and computing this answer again gave another token. "
    "Ask again; in strict mode the same bits come again."
)
"""Rounding may decide a near tie differently where rows are not computed bit by bit the same."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Job:
    """One sequence to generate: a prompt in ids and what to do with it."""

    prompt: tuple[int, ...]
    """At least one id."""
    params: SamplingParams
    max_tokens: int
    """0 scores or caches the prompt and generates nothing."""
    report: Report = dataclasses.field(default_factory=Report)
    stop_ids: frozenset[int] = frozenset()
    """Ids that end the sequence; the id itself is reported as the last token."""
    guide: Guide | None = None
    score: int | None = None
    """Report the prompt's own logprobs, with this many alternatives; None does not."""
    logits: bool = False
    """Report the logits of the token after the prompt."""


@dataclasses.dataclass(frozen=True, slots=True)
class TokenEvent:
    """One drawn token. Probabilities are natural logarithms; `None` was not asked for."""

    id: int
    logprob: float
    sampling_logprob: float
    top_ids: np.ndarray
    top_logprobs: np.ndarray
    top_sampling_logprobs: np.ndarray
    top_dropped: np.ndarray
    rank: int | None = None
    entropy: float | None = None
    sampling_entropy: float | None = None
    support: int | None = None
    kept_mass: float | None = None
    bias: float | None = None
    penalty: float | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class PromptScores:
    """The model's view of prompt tokens 1 .. N - 1, each given those before it: arrays of N - 1
    rows."""

    logprob: np.ndarray
    rank: np.ndarray
    entropy: np.ndarray
    top_ids: np.ndarray
    top_logprobs: np.ndarray


@dataclasses.dataclass(frozen=True, slots=True)
class Tokens:
    """Newly drawn tokens of a sequence, in order."""

    ticket: Ticket
    tokens: tuple[TokenEvent, ...]


@dataclasses.dataclass(frozen=True, slots=True)
class Prompted:
    """The prompt is in the cache; `scores` and `logits`, `[V]`, if the job asked for them."""

    ticket: Ticket
    scores: PromptScores | None
    logits: jax.Array | np.ndarray | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class Ended:
    """No more tokens. `stop_id` is set when a stop id other than the guide's end ended the
    sequence."""

    ticket: Ticket
    reason: Literal["stop", "length"]
    stop_id: int | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class Failed:
    """The sequence cannot go on."""

    ticket: Ticket
    error: ToolkitError


Event = Tokens | Prompted | Ended | Failed


class Ticket:
    """A job on its way through the engine. The host's notebook about one row."""

    def __init__(self, job: Job, events: queue.SimpleQueue[Event]):
        self.job = job
        self.events = events
        self.cancelled = False
        self.over = False
        self.row: int | None = None
        self.lineage: Mapping[int, int] = {}
        """Of the prompt in the row; see `toolkit.engine.prefixes`."""
        self.dispatched = 0
        """Tokens whose draw was sent to the device."""
        self.generated = 0
        """Tokens read back."""
        self.node = 1 if job.guide else 0
        self.told: list[int] = []
        """Ids that were passed on; after a `rewind` there are more of them than `generated`."""
        self.goal = 0
        """Tokens to draw on trial after a fault; see `Trials`."""
        self.unexplained = 0
        """Faults that this ticket was present at and that nobody was found guilty of."""
        self.alone = False
        """The prompt is computed without company, since a group that it was in failed."""
        self._announced = False

    def rewind(self) -> None:
        """Lose the row and what was computed in it: the sequence starts again from its prompt."""
        self.row, self.dispatched, self.generated = None, 0, 0
        self.node = 1 if self.job.guide else 0

    def prompted(self, scores: PromptScores | None, logits: jax.Array | np.ndarray | None) -> None:
        """The prompt is in the cache. A job without tokens to generate is over now."""
        asked = self.job.score is not None
        if not self._announced:
            self._announced = True
            self.events.put(Prompted(self, scores if asked else None, logits))
        if self.job.max_tokens == 0:
            self.finish(Ended(self, "length"))

    def take(self, tokens: list[TokenEvent]) -> None:
        """Pass drawn tokens on, up to the one that ends the sequence.

        After a `rewind` those that were passed on before come again, and are left out.
        """
        kept: list[TokenEvent] = []
        end: Ended | None = None
        for token in tokens:
            if self.generated == len(self.told):
                kept.append(token)
                self.told.append(token.id)
            elif token.id != self.told[self.generated]:
                return self.finish(Failed(self, EngineFault(OTHERWISE)))
            self.generated += 1
            end = self._end(token.id)
            if end:
                break
        if kept:
            self.events.put(Tokens(self, tuple(kept)))
        if end:
            self.finish(end)

    def _end(self, token: int) -> Ended | None:
        if token in self.job.stop_ids:
            return Ended(self, "stop", token)
        if self.job.guide:
            self.node = self.job.guide.advance(self.node, token)
            if self.node == 0:
                return Ended(self, "stop")
        if self.generated >= self.job.max_tokens:
            return Ended(self, "length")
        return None

    def finish(self, event: Ended | Failed) -> None:
        """Send the last event, once."""
        if not self.over:
            self.over = True
            self.events.put(event)
