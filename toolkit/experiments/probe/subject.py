"""The target under examination: asks it, counts the requests, keeps answers that several checks
read."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

from toolkit.errors import InvalidRequest, TargetError
from toolkit.experiments.reading import Choice, choices
from toolkit.experiments.target import Answer, Target

PROMPT = "My favourite thing about"
OTHER = "Once upon a time there was"
FLAT = (PROMPT, "My favourite colour is", "She looked at him and", "The number is a")
"""Prompts after which several tokens are likely."""
SEED = 20_241_027
LENGTH = 12
"""Tokens that most checks ask for."""
DRAWS = 48


class Subject:
    """A target and what it has said so far. `prompt` replaces the prompts of the checks."""

    def __init__(self, target: Target, prompt: str | None = None):
        self.target = target
        self.prompt = prompt or PROMPT
        self.requests = 0
        self.dialect = getattr(target, "dialect", "")
        self.strict = self.dialect == "strict"

    def ask(self, prompt: Any = None, **fields: Any) -> Answer:
        """One request; raises what the target raises."""
        return self.complete({"prompt": self.prompt if prompt is None else prompt, **fields})

    def complete(self, fields: Mapping[str, Any]) -> Answer:
        """One request, its prompt among the fields."""
        self.requests += 1
        return self.target.complete(fields)

    def read(self, prompt: Any = None, **fields: Any) -> list[Choice]:
        """The choices of one request."""
        return choices(self.ask(prompt, **fields))

    def logprobs(self, count: int) -> int | bool:
        """`count` alternatives as the target's dialect asks for them; the strict one knows 1."""
        return True if self.strict else count

    @functools.cached_property
    def greedy(self) -> Answer:
        """The greedy answer to the prompt, with log-probabilities."""
        return self.ask(temperature=0, max_tokens=LENGTH, logprobs=self.logprobs(5))

    @functools.cached_property
    def seeded(self) -> list[Choice]:
        """Four choices drawn with the seed."""
        return self.read(
            temperature=1, max_tokens=LENGTH, n=4, seed=SEED, logprobs=self.logprobs(1)
        )

    @functools.cached_property
    def ids(self) -> list[int] | None:
        """The ids of the prompt, if anybody tells."""
        return self.tokenize(self.prompt)

    def tokenize(self, text: str) -> list[int] | None:
        """The target's own ids of a text; None where it has no route, or fails there."""
        try:
            return self.target.tokenize(text)
        except (InvalidRequest, TargetError):
            return None

    def distribution(self, prompt: str | None = None, **fields: Any) -> dict[bytes, float]:
        """Log-probabilities of first tokens after a prompt, as far as a few choices show them."""
        found: dict[bytes, float] = {}
        many = 8 if self.strict and fields.get("temperature") != 0 else 1
        for choice in self.read(
            prompt, max_tokens=1, n=many, logprobs=self.logprobs(5), seed=SEED, **fields
        ):
            for token in choice.completion[:1]:
                found |= token.top
        return found

    @functools.cached_property
    def plain(self) -> dict[bytes, float]:
        """First tokens after the prompt at temperature 1."""
        return self.distribution(temperature=1, top_p=1)

    def draws(self, count: int, prompt: str, **fields: Any) -> list[bytes]:
        """First tokens drawn after a prompt, with several choices a request where it gives them."""
        drawn: list[bytes] = []
        at_once = count
        while len(drawn) < count:
            seed = SEED + 1000 + len(drawn)
            try:
                found = self.read(
                    prompt,
                    max_tokens=1,
                    n=min(at_once, count - len(drawn)),
                    seed=seed,
                    logprobs=self.logprobs(1),
                    **fields,
                )
            except (InvalidRequest, TargetError):
                if at_once == 1:
                    raise
                at_once = 1
                continue
            firsts = [c.completion[0].data for c in found if c.completion]
            if not firsts:
                raise InvalidRequest("The answers have no log-probabilities to tell tokens by.")
            drawn += firsts
        return drawn
