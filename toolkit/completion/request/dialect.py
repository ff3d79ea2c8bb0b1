"""The surfaces that a request can arrive on, and the limits that a server may set."""

from __future__ import annotations

import dataclasses
import enum


class Dialect(enum.Enum):
    """Which fields a surface takes and how it reads null; the meaning of a field never differs."""

    STRICT = "strict"
    """The specification's route: exactly its fields, `null` is refused."""
    LEGACY = "legacy"
    """The route of OpenAI's and vLLM's clients: extensions, integer `logprobs`, null = absent."""
    PYTHON = "python"
    """Keyword arguments: the fields of both, arrays as token ids, None = absent."""

    @property
    def place(self) -> str:
        """How messages call this surface."""
        return _PLACES[self]


_PLACES = {
    Dialect.STRICT: "/v1/openai/v1/completions",
    Dialect.LEGACY: "/v1/completions",
    Dialect.PYTHON: "the Python functions",
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Limits:
    """What whoever serves a model allows one request to ask for."""

    max_logprobs: int = 20
    """Most alternatives a token; the size of the vocabulary also allows -1 (all)."""
    max_sequences: int = 256
    """Most candidates of one request: prompts times the larger of `n` and `best_of`."""
    max_choice_bytes: int = 65_536
    """Most bytes of all strings of `guided_choice` together. Others wait for their tables."""


DEFAULT_LIMITS = Limits()
