"""Guided choice and the probability of a choice by brute force, for tests only."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np

from tests.oracle.sampler import log_softmax


@dataclasses.dataclass(frozen=True)
class Guide:
    """What may follow the bytes generated so far, so that the whole is one of `choices`.

    Any tokenisation will do. A token without bytes is never allowed, except the end-of-text ids
    where a choice is complete and a longer one goes on.
    """

    choices: tuple[bytes, ...]
    vocabulary: Sequence[bytes]
    eos_ids: tuple[int, ...] = ()

    def allowed(self, done: bytes) -> list[int]:
        """Ids that may come next, in order."""
        return [token for token in range(len(self.vocabulary)) if self._may_follow(done, token)]

    def finished(self, done: bytes) -> bool:
        """Whether the bytes are a choice that is no proper prefix of another one."""
        return done in self.choices and not self._goes_on(done)

    def _may_follow(self, done: bytes, token: int) -> bool:
        if token in self.eos_ids:
            return done in self.choices and self._goes_on(done)
        piece = self.vocabulary[token]
        return bool(piece) and any(choice.startswith(done + piece) for choice in self.choices)

    def _goes_on(self, done: bytes) -> bool:
        return any(choice.startswith(done) and choice != done for choice in self.choices)


def tokenisations(data: bytes, vocabulary: Sequence[bytes]) -> list[tuple[int, ...]]:
    """Every sequence of ids whose bytes joined are `data` (small vocabularies only)."""
    if not data:
        return [()]
    return [
        (token, *rest)
        for token, piece in enumerate(vocabulary)
        if piece and data.startswith(piece)
        for rest in tokenisations(data[len(piece) :], vocabulary)
    ]


def choice_probability(
    next_logits: Callable[[Sequence[int]], np.ndarray],
    prompt_ids: Sequence[int],
    choice: bytes,
    vocabulary: Sequence[bytes],
) -> float:
    """The model's raw probability of `choice` in any tokenisation; what follows it is open.

    The sum over all tokenisations of the product of their tokens' probabilities.
    """
    total = 0.0
    for tokens in tokenisations(choice, vocabulary):
        logprob, ids = 0.0, list(prompt_ids)
        for token in tokens:
            logprob += log_softmax(np.asarray(next_logits(ids), np.float64))[token]
            ids.append(token)
        total += float(np.exp(logprob))
    return total
