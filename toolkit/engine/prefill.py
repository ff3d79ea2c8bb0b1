"""Prompts on their way into the cache: a long one a chunk at a time, short ones several at a
time."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import jax
import numpy as np

from toolkit.engine.groups import Group, Shape, reusable
from toolkit.engine.job import Job, PromptScores
from toolkit.engine.prefixes import Prefix, Prefixes, lineage_of
from toolkit.engine.scheduler import chunk_bucket, prompt_slots
from toolkit.engine.steps import Steps
from toolkit.models.cache import KVCache
from toolkit.models.packing import Packing
from toolkit.sampling.logprobs import Scored
from toolkit.sampling.params import bucket
from toolkit.sampling.variant import TOP

Chunk = tuple[Scored, np.ndarray, list[int]]
"""What a chunk scored, where each prompt's tokens begin in it, how many they are."""


@dataclasses.dataclass
class Prefill:
    """Prompts whose first `start` tokens are in `cache`, a row each. Only one alone has chunks."""

    steps: Steps
    leaves: tuple
    jobs: tuple[Job, ...]
    shape: Shape | None
    cache: KVCache
    slots: int
    start: int
    near: Prefix | None = None
    """The stored prompt that the tokens before the first chunk come from."""
    logits: jax.Array | None = None
    scored: list[Chunk] = dataclasses.field(default_factory=list)

    def __post_init__(self) -> None:
        self.reused = self.start

    @classmethod
    def begin(cls, group: Group, steps: Steps, leaves: tuple, prefixes: Prefixes) -> Prefill:
        """Start with an empty cache, or, for one prompt, with a copy of the stored one that shares
        the most tokens."""
        first, dtype = group.jobs[0], leaves[0].dtype
        near, shared = reusable(first, prefixes) if group.shape is None else (None, 0)
        if group.shape is None:
            slots = prompt_slots(shared + padded(len(first.prompt) - shared))
        else:
            slots = prompt_slots(group.shape.width)
        if near is not None:
            cache = steps.stretch(near.cache, slots)
        else:
            cache = steps.empty_cache(group.shape.rows if group.shape else 1, slots, dtype)
        return cls(steps, leaves, group.jobs, group.shape, cache, slots, shared, near)

    @property
    def done(self) -> bool:
        """Whether the whole prompts are in the cache."""
        return self.start >= max(len(job.prompt) for job in self.jobs)

    def serves(self, job: Job) -> bool:
        """Whether it goes on, and its result will do for this job too."""
        return not self.done and any(
            mine.prompt == job.prompt
            and (job.score is None or (mine.score is not None and mine.score >= job.score))
            for mine in self.jobs
        )

    @property
    def top(self) -> int:
        """Alternatives that the program computes: none, or a bucket that holds those asked for."""
        asked = max(job.score or 0 for job in self.jobs)
        return top_bucket(asked, self.steps.config.vocab_size)

    @property
    def program(self) -> str:
        """Name of the program that the next chunk runs."""
        top = None if self.jobs[0].score is None else self.top
        return program_of(self.shape or lone(self._chunk), self.slots, top)

    @property
    def _chunk(self) -> int:
        """Tokens of a lone prompt's next call, padding included."""
        return chunk_bucket(len(self.jobs[0].prompt) - self.start)

    def advance(self) -> int:
        """Send one more chunk to the device; how many tokens of prompts it held."""
        shape = self.shape or lone(self._chunk)
        ids = [job.prompt[self.start :][: shape.width] for job in self.jobs]
        counts = [len(own) for own in ids]
        sizes = counts if shape.packed else [shape.width] * len(ids)
        first = np.cumsum([0, *sizes[:-1]])
        last = np.zeros(shape.rows, np.int32)
        last[: len(ids)] = first + counts - 1
        packing = None
        if shape.packed:
            size = {"rows": shape.rows, "width": shape.width, "tokens": shape.tokens}
            packing = Packing.of(counts, **size)
        start = np.full(shape.rows, self.start, np.int32)
        tokens = _laid(ids, first, shape)
        args = self.leaves, self.cache, tokens, start, last, packing
        if self.jobs[0].score is None:
            self.cache, self.logits = self.steps.prefill(*args)
        else:
            after = [job.prompt[self.start + 1 :][: shape.width] for job in self.jobs]
            targets = _laid(after, first, shape)
            self.cache, self.logits, scored = self.steps.prefill_scored(*args, targets, self.top)
            self.scored.append((scored, first, counts))
        self.start += max(counts)
        return sum(counts)

    def results(self) -> list[Prefix]:
        """The finished prompts, a job each. Raises AssertionError before `done`."""
        assert self.logits is not None, "a prompt has at least one token"
        rows = self.steps.rows_apart(self.cache, self.logits, len(self.logits))[: len(self.jobs)]
        read = [(jax.tree.map(np.asarray, s), first, count) for s, first, count in self.scored]
        results = []
        for row, (job, own) in enumerate(zip(self.jobs, rows, strict=True)):
            scores = self._scores(job, row, read) if read else None
            lineage = lineage_of(job.prompt, self.near, self.reused)
            results.append(Prefix(job.prompt, *own, scores, lineage))
        return results

    def _scores(self, job: Job, row: int, chunks: Sequence[Chunk]) -> PromptScores:
        """Of a prompt's tokens 1 .. N - 1: those that are stored, then those of the chunks."""
        parts: list[tuple[Scored | PromptScores, slice]] = []
        if self.near is not None and self.near.scores is not None:
            parts.append((self.near.scores, slice(0, self.reused)))
        for scored, first, counts in chunks:
            parts.append((scored, slice(first[row], first[row] + counts[row])))
        columns = min(max(job.score or 0, TOP), *(x.top_ids.shape[1] for x, _ in parts))

        def joined(name: str) -> np.ndarray:
            each = (getattr(x, name)[at] for x, at in parts)
            return np.concatenate([x[:, :columns] if x.ndim > 1 else x for x in each])[:count]

        count = len(job.prompt) - 1
        return PromptScores(**{x.name: joined(x.name) for x in dataclasses.fields(PromptScores)})


def lone(chunk: int) -> Shape:
    """What a call for one prompt holds."""
    return Shape(1, chunk, chunk)


def program_of(shape: Shape, slots: int, top: int | None) -> str:
    """The name of a program; `top` None scores nothing."""
    size = f"{shape.width}, packed={shape.tokens}" if shape.packed else f"{shape.width}"
    kind = "prefill" if top is None else f"score, top={top}"
    return f"{kind}[rows={shape.rows}, tokens={size}, slots={slots}]"


def top_bucket(asked: int, vocab: int) -> int:
    """How many a program computes that serves those who ask for this many."""
    return min(bucket(asked, TOP), vocab) if asked else 0


def _laid(lists: Sequence[Sequence[int]], first: np.ndarray, shape: Shape) -> np.ndarray:
    """Ids in the order that a call wants them, `[1, T]` or a row for each list."""
    out = np.zeros(shape.tokens, np.int32)
    for at, ids in zip(first, lists, strict=True):
        out[at : at + len(ids)] = ids
    return out.reshape(1 if shape.packed else shape.rows, -1)


def padded(length: int) -> int:
    """Slots that chunks of `length` tokens write, padding included."""
    total = 0
    while length > 0:
        size = chunk_bucket(length)
        total += size
        length -= size
    return total
