"""Which waiting prompts are computed with the next one. Host code: no arrays, no device."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

from toolkit.engine.job import Job
from toolkit.engine.prefixes import Prefix, Prefixes, in_common
from toolkit.engine.scheduler import CHUNKS, chunk_bucket

REUSE = 16
"""Shared leading tokens that make copying another prompt's cache worth while."""
OVERHEAD = 32
"""Tokens that take as long as a call does before its first one: it reads all weights."""
LOOKED_AT = 64
"""Waiting prompts among which companions are sought."""


@dataclasses.dataclass(frozen=True)
class Shape:
    """What one call holds: `rows` prompts of up to `width` tokens, `tokens` in all.

    Either a grid, whose prompts are padded to the width, or, with fewer tokens than places in the
    grid, packed: prompts of different lengths one after another.
    """

    rows: int
    width: int
    tokens: int

    @property
    def packed(self) -> bool:
        """Whether prompts follow each other without padding."""
        return self.tokens < self.rows * self.width

    def filled(self, jobs: Iterable[Job]) -> tuple[Job, ...]:
        """As many of these jobs as it holds, in their order, and the first in any case."""
        taken: list[Job] = []
        left = self.tokens
        for job in jobs:
            size = len(job.prompt) if self.packed else self.width
            if len(taken) == self.rows or (taken and left < CHUNKS[0]):
                break
            if len(job.prompt) <= self.width and size <= left:
                taken.append(job)
                left -= size
            elif not taken:
                return ()
        return tuple(taken)


SHAPES = (
    Shape(4, 16, 64),
    Shape(16, 16, 256),
    Shape(4, 32, 128),
    Shape(16, 32, 512),
    Shape(4, 64, 256),
    Shape(16, 64, 512),
    Shape(4, 128, 512),
    Shape(8, 128, 512),
    Shape(2, 256, 512),
    Shape(4, 256, 512),
)
"""Few, since each is a program. Five hundred tokens fill two cores; attention, which sees the
grid, limits how much larger than its tokens a packed shape's grid should be."""


@dataclasses.dataclass(frozen=True)
class Group:
    """Prompts that one call computes from their beginning; `shape` is None for one on its own."""

    jobs: tuple[Job, ...]
    shape: Shape | None = None


def group_of(first: Job, waiting: Iterable[Job], prefixes: Prefixes) -> Group:
    """The next prompt with the company, if any, that computes most tokens of prompts for its time.

    A prompt of which half or more is stored, or is about to be as the beginning of another one, is
    better continued from there.
    """
    shared = reusable(first, prefixes)[1]
    price = OVERHEAD + chunk_bucket(len(first.prompt) - shared)
    best, most = Group((first,)), len(first.prompt) / price
    if len(first.prompt) > SHAPES[-1].width or 2 * shared >= len(first.prompt):
        return best
    others = _company(first, waiting, prefixes)
    for shape in SHAPES:
        jobs = shape.filled([first, *others])
        done = sum(len(job.prompt) for job in jobs) / (OVERHEAD + shape.tokens)
        if len(jobs) > 1 and done > most:
            best, most = Group(jobs, shape), done
    return best


def reusable(job: Job, prefixes: Prefixes) -> tuple[Prefix | None, int]:
    """The stored prompt that shares the most tokens with this one, and how many of this one's need
    not be computed."""
    near, shared = prefixes.nearest(job.prompt, score=job.score)
    # The logits after the shared part are not stored: where they tell a score or the first token,
    # one shared token is computed again.
    if shared == len(job.prompt) or job.score is not None:
        shared -= 1
    return (near, shared) if near is not None and shared >= REUSE else (None, 0)


def _company(first: Job, waiting: Iterable[Job], prefixes: Prefixes) -> list[Job]:
    """The waiting jobs that may be computed with this one."""
    chosen: list[Job] = []
    prompts = {first.prompt}  # an equal one waits for the result, however short it is
    for _, job in zip(range(LOOKED_AT), waiting, strict=False):
        alike = _wish(job) == _wish(first) and len(job.prompt) <= SHAPES[-1].width
        if not alike or job.prompt in prompts:
            continue
        if prefixes.find(job.prompt, score=job.score) is not None:
            continue
        half = max(REUSE, len(job.prompt) // 2)
        if reusable(job, prefixes)[1] >= half:
            continue
        if all(in_common(job.prompt, other.prompt) < half for other in (first, *chosen)):
            chosen.append(job)
            prompts.add(job.prompt)
    return chosen


def _wish(job: Job) -> tuple[bool, bool]:
    """Jobs with the same one are served by the same program."""
    return job.score is None, bool(job.score)
