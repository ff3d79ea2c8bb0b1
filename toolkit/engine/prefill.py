"""One prompt on its way into the cache, a chunk at a time."""

from __future__ import annotations

import dataclasses

import jax
import numpy as np

from toolkit.engine.job import Job, PromptScores
from toolkit.engine.prefixes import Prefix, Prefixes
from toolkit.engine.scheduler import chunk_bucket, slot_bucket
from toolkit.engine.steps import Steps
from toolkit.models.cache import KVCache
from toolkit.sampling.logprobs import Scored
from toolkit.sampling.params import bucket
from toolkit.sampling.sample import TOP

REUSE = 16
"""Shared leading tokens that make copying another prompt's cache worth while."""


@dataclasses.dataclass
class Prefill:
    """A prompt whose first `start` tokens are in `cache`."""

    steps: Steps
    leaves: tuple
    job: Job
    cache: KVCache
    slots: int
    start: int
    reused: int
    logits: jax.Array | None = None
    scored: list[tuple[Scored, int]] = dataclasses.field(default_factory=list)

    @classmethod
    def begin(cls, job: Job, steps: Steps, leaves: tuple, prefixes: Prefixes) -> Prefill:
        """Start with an empty cache, or with a copy of the stored prompt that shares the most
        tokens.

        A prompt to be scored starts at its beginning: the store has no scores of a part of a
        prompt.
        """
        slots = slot_bucket(padded(len(job.prompt)))
        near, shared = prefixes.nearest(job.prompt) if job.score is None else (None, 0)
        if near is not None and shared >= REUSE:
            slots = slot_bucket(shared + padded(len(job.prompt) - shared))
            cache = steps.stretch(near.cache, slots)
        else:
            shared = 0
            cache = KVCache.zeros(steps.config, rows=1, slots=slots, dtype=leaves[0].dtype)
        return cls(steps, leaves, job, cache, slots, start=shared, reused=shared)

    @property
    def done(self) -> bool:
        """Whether the whole prompt is in the cache."""
        return self.start == len(self.job.prompt)

    def serves(self, job: Job) -> bool:
        """Whether the result will do for this job too."""
        return self.job.prompt == job.prompt and (
            job.score is None or (self.job.score is not None and self.job.score >= job.score)
        )

    @property
    def top(self) -> int:
        """Alternatives that the program computes: a bucket that holds those asked for."""
        return min(bucket(self.job.score or 0, TOP), self.steps.config.vocab_size)

    @property
    def program(self) -> str:
        """Name of the program that the next chunk runs."""
        size = chunk_bucket(len(self.job.prompt) - self.start)
        kind = "prefill" if self.job.score is None else f"score, top={self.top}"
        return f"{kind}[tokens={size}, slots={self.slots}]"

    def advance(self) -> int:
        """Send one more chunk to the device; how many tokens it held."""
        ids = self.job.prompt[self.start :]
        size = chunk_bucket(len(ids))
        tokens = np.zeros((1, size), np.int32)
        count = min(size, len(ids))
        tokens[0, :count] = ids[:count]
        args = self.leaves, self.cache, tokens, np.int32(self.start), np.int32(count - 1)
        if self.job.score is None:
            self.cache, self.logits = self.steps.prefill(*args)
        else:
            targets = np.zeros(size, np.int32)
            following = ids[1 : count + 1]
            targets[: len(following)] = following
            self.cache, self.logits, scored = self.steps.prefill_scored(*args, targets, self.top)
            self.scored.append((scored, len(following)))
        self.start += count
        return count

    def result(self) -> Prefix:
        """The finished prompt. Raises AssertionError before `done`."""
        assert self.logits is not None, "the prompt has at least one token"
        scores = None if self.job.score is None else self._scores()
        return Prefix(self.job.prompt, self.cache, self.logits, scores)

    def _scores(self) -> PromptScores:
        parts = [jax.tree.map(lambda x, n=n: np.asarray(x)[:n], s) for s, n in self.scored]
        whole = jax.tree.map(lambda *x: np.concatenate(x), *parts)
        keep = max(self.job.score or 0, min(TOP, whole.top_ids.shape[1]))
        return PromptScores(
            logprob=whole.logprob,
            rank=whole.rank,
            entropy=whole.entropy,
            top_ids=whole.top_ids[:, :keep].copy(),
            top_logprobs=whole.top_logprobs[:, :keep].copy(),
        )


def padded(length: int) -> int:
    """Slots that chunks of `length` tokens write, padding included."""
    total = 0
    while length > 0:
        size = chunk_bucket(length)
        total += size
        length -= size
    return total
