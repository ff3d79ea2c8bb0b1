"""Prompts on their way into the cache: a long one a chunk at a time, short ones several at a
time."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence

import jax
import numpy as np

from toolkit.engine.job import Job, PromptScores
from toolkit.engine.prefixes import Prefix, Prefixes
from toolkit.engine.scheduler import chunk_bucket, prompt_slots
from toolkit.engine.steps import Steps
from toolkit.models.cache import KVCache
from toolkit.sampling.logprobs import Scored
from toolkit.sampling.params import bucket
from toolkit.sampling.sample import TOP

REUSE = 16
"""Shared leading tokens that make copying another prompt's cache worth while."""
SHORT = 128
"""Prompts of at most so many tokens are computed together; a longer one fills the cores alone."""
TOGETHER = (16, 4)
"""Sizes of such a group, as far as they hold no more tokens than the largest chunk."""
MOST = 512
"""Tokens of a group, padding included."""


@dataclasses.dataclass
class Prefill:
    """Prompts whose first `start` tokens are in `cache`, a row each. Only one alone has chunks."""

    steps: Steps
    leaves: tuple
    jobs: tuple[Job, ...]
    cache: KVCache
    slots: int
    start: int
    reused: int
    logits: jax.Array | None = None
    scored: list[tuple[Scored, int]] = dataclasses.field(default_factory=list)

    @classmethod
    def begin(cls, jobs: Sequence[Job], steps: Steps, leaves: tuple, prefixes: Prefixes) -> Prefill:
        """Start with an empty cache, or with a copy of the stored prompt that shares the most
        tokens.

        Several jobs are a group that `together` chose. A prompt to be scored starts at its
        beginning: the store has no scores of a part of a prompt.
        """
        first = jobs[0]
        slots = prompt_slots(padded(max(len(job.prompt) for job in jobs)))
        near, shared = _shared(first, prefixes) if len(jobs) == 1 else (None, 0)
        if near is not None and shared >= REUSE:
            slots = prompt_slots(shared + padded(len(first.prompt) - shared))
            cache = steps.stretch(near.cache, slots)
        else:
            shared, rows = 0, len(jobs)
            cache = steps.empty_cache(rows, slots, leaves[0].dtype)
        return cls(steps, leaves, tuple(jobs), cache, slots, start=shared, reused=shared)

    @property
    def longest(self) -> int:
        """Tokens of the longest prompt."""
        return max(len(job.prompt) for job in self.jobs)

    @property
    def done(self) -> bool:
        """Whether the whole prompts are in the cache."""
        return self.start >= self.longest

    def serves(self, job: Job) -> bool:
        """Whether the result will do for this job too."""
        return any(
            mine.prompt == job.prompt
            and (job.score is None or (mine.score is not None and mine.score >= job.score))
            for mine in self.jobs
        )

    @property
    def top(self) -> int:
        """Alternatives that the program computes: none, or a bucket that holds those asked for."""
        asked = max(job.score or 0 for job in self.jobs)
        return min(bucket(asked, TOP), self.steps.config.vocab_size) if asked else 0

    @property
    def program(self) -> str:
        """Name of the program that the next chunk runs."""
        size = chunk_bucket(self.longest - self.start)
        kind = "prefill" if self.jobs[0].score is None else f"score, top={self.top}"
        return f"{kind}[rows={len(self.jobs)}, tokens={size}, slots={self.slots}]"

    def advance(self) -> int:
        """Send one more chunk to the device; how many tokens of prompts it held."""
        rest = [job.prompt[self.start :] for job in self.jobs]
        size = chunk_bucket(max(map(len, rest)))
        tokens = _padded((ids[:size] for ids in rest), size)
        counts = np.asarray([min(size, len(ids)) for ids in rest], np.int32)
        start = np.full(len(rest), self.start, np.int32)
        args = self.leaves, self.cache, tokens, start, counts - 1
        if self.jobs[0].score is None:
            self.cache, self.logits = self.steps.prefill(*args)
        else:
            targets = _padded((ids[1 : size + 1] for ids in rest), size)
            self.cache, self.logits, scored = self.steps.prefill_scored(*args, targets, self.top)
            self.scored.append((scored, size))
        self.start += size if len(rest[0]) > size else int(counts.max())
        return int(counts.sum())

    def results(self) -> list[Prefix]:
        """The finished prompts, a job each. Raises AssertionError before `done`."""
        assert self.logits is not None, "a prompt has at least one token"
        scores = self._scores() if self.scored else [None] * len(self.jobs)
        rows = self.steps.rows_apart(self.cache, self.logits, len(self.jobs))
        return [
            Prefix(job.prompt, cache, logits, own)
            for job, (cache, logits), own in zip(self.jobs, rows, scores, strict=True)
        ]

    def _scores(self) -> list[PromptScores]:
        """Of each prompt's tokens 1 .. N - 1."""
        rows = len(self.jobs)
        chunks = [
            jax.tree.map(lambda x, n=n: np.asarray(x).reshape(rows, n, *x.shape[1:]), scored)
            for scored, n in self.scored
        ]
        whole = jax.tree.map(lambda *x: np.concatenate(x, axis=1), *chunks)
        return [_scores_of(job, row, whole) for row, job in enumerate(self.jobs)]


def together(first: Job, waiting: Iterable[Job], prefixes: Prefixes) -> tuple[Job, ...]:
    """The jobs whose prompts are computed with this one's, itself the first: short prompts of about
    its length that nobody has computed any part of."""
    size, scored = chunk_bucket(len(first.prompt)), first.score is None
    most = min(TOGETHER[0], MOST // size)
    if len(first.prompt) > SHORT or _reusable(first, prefixes):
        return (first,)
    group = {first.prompt: first}
    for job in waiting:
        alike = chunk_bucket(len(job.prompt)) == size and (job.score is None) == scored
        alike = alike and _wants_alternatives(job) == _wants_alternatives(first)
        if alike and job.prompt not in group and not _reusable(job, prefixes):
            group[job.prompt] = job
        if len(group) == most:
            break
    count = next((n for n in TOGETHER if n <= min(len(group), most)), 1)
    return tuple(group.values())[:count]


def _reusable(job: Job, prefixes: Prefixes) -> bool:
    known = prefixes.find(job.prompt, score=job.score) is not None
    return known or _shared(job, prefixes)[1] >= REUSE


def _shared(job: Job, prefixes: Prefixes) -> tuple[Prefix | None, int]:
    """The stored prompt that shares the most tokens with this one, and how many it may copy."""
    return prefixes.nearest(job.prompt) if job.score is None else (None, 0)


def _wants_alternatives(job: Job) -> bool:
    return bool(job.score)


def _scores_of(job: Job, row: int, whole: Scored) -> PromptScores:
    """One prompt's part of a group's scores: arrays of `[rows, tokens, ...]`."""
    count = len(job.prompt) - 1
    mine = jax.tree.map(lambda x: x[row, :count], whole)
    keep = max(job.score or 0, min(TOP, mine.top_ids.shape[1]))
    return PromptScores(
        logprob=mine.logprob.copy(),
        rank=mine.rank.copy(),
        entropy=mine.entropy.copy(),
        top_ids=mine.top_ids[:, :keep].copy(),
        top_logprobs=mine.top_logprobs[:, :keep].copy(),
    )


def _padded(rows: Iterable[Sequence[int]], size: int) -> np.ndarray:
    lists = list(rows)
    out = np.zeros((len(lists), size), np.int32)
    for row, ids in enumerate(lists):
        out[row, : len(ids)] = ids
    return out


def padded(length: int) -> int:
    """Slots that chunks of `length` tokens write, padding included."""
    total = 0
    while length > 0:
        size = chunk_bucket(length)
        total += size
        length -= size
    return total
