"""Teacher forcing: what a target thinks of each token of a text that it is given."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from toolkit.errors import InvalidRequest, RunError, TargetError
from toolkit.experiments.reading import Token, choices
from toolkit.experiments.target import Answer

TOP = 5
"""Alternatives that are asked for."""


class Asks(Protocol):
    """Whatever answers a request."""

    def complete(self, fields: Mapping[str, Any]) -> Answer: ...


def scores(target: Asks, prompt: str | Sequence[int]) -> list[Token] | None:
    """The tokens of a prompt with their log-probabilities; None where the target gives none.

    One token is generated and left out: some servers refuse `max_tokens` 0, and some take it for no
    limit. Where there is no room for one, none is asked for.
    """
    strict = getattr(target, "dialect", "") == "strict"
    shown = prompt if isinstance(prompt, str) else list(prompt)
    fields: dict[str, Any] = {"prompt": shown, "echo": True, "temperature": 0}
    fields["logprobs"] = True if strict else TOP
    for most in (1, 0):
        try:
            answer = target.complete({**fields, "max_tokens": most})
            found = list(choices(answer)[0].tokens)
        except (InvalidRequest, RunError):
            continue
        except TargetError as error:
            if error.code is None:
                raise
            continue
        if isinstance(prompt, str):
            kept = _of_text(found, prompt)
        else:
            kept = found[: len(prompt) - (1 if strict else 0)]
        if any(token.logprob is not None for token in kept):
            return kept
    return None


def _of_text(tokens: list[Token], text: str) -> list[Token]:
    """The tokens that spell a text, or its end where a server leaves out the first: those after
    them were generated. Where characters are lost, as many tokens as have its length."""
    whole = text.encode()
    ends = list(itertools.accumulate((token.data for token in tokens), initial=b""))
    for count in range(len(tokens), 0, -1):
        if whole.endswith(ends[count]):
            return tokens[:count]
    return [token for token, before in zip(tokens, ends, strict=False) if len(before) < len(whole)]
