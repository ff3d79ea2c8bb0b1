"""Which prompts are computed together, by counting tokens."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

from toolkit.engine.groups import OVERHEAD, SHAPES, Group, Shape, group_of, reusable
from toolkit.engine.job import Job, PromptScores
from toolkit.engine.prefixes import Prefix, Prefixes, in_common
from toolkit.models.cache import KVCache
from toolkit.sampling.params import SamplingParams

NOTHING = Prefixes(2**20)


def job(ids: tuple[int, ...], **fields: Any) -> Job:
    return Job(prompt=ids, params=SamplingParams(), max_tokens=1, **fields)


def prompts(*lengths: int) -> list[Job]:
    """Jobs whose prompts share nothing."""
    return [job((i, *range(100, 99 + length))) for i, length in enumerate(lengths)]


def stored(*entries: tuple[int, ...], scores: int | None = None) -> Prefixes:
    """A store of prompts, with so many alternatives of each scored token."""
    kept = Prefixes(2**20)
    for ids in entries:
        rows, empty = len(ids) - 1, np.zeros(len(ids) - 1)
        tops = np.zeros((rows, scores or 0))
        own = None if scores is None else PromptScores(empty, empty, empty, tops, tops)
        kept.keep(Prefix(ids, KVCache(layers=()), jnp.zeros(1), own))
    return kept


@pytest.mark.parametrize(
    ("count", "length", "rows", "shape"),
    [
        (1, 5, 1, None),
        (2, 5, 1, None),
        (3, 5, 3, Shape(4, 16, 64)),
        (4, 16, 4, Shape(4, 16, 64)),
        (15, 5, 15, Shape(16, 16, 256)),
        (40, 32, 16, Shape(16, 32, 512)),
        (40, 33, 15, Shape(16, 64, 512)),
        (40, 64, 8, Shape(16, 64, 512)),
        (9, 100, 5, Shape(8, 128, 512)),
        (9, 128, 4, Shape(4, 128, 512)),
        (9, 256, 2, Shape(2, 256, 512)),
        (9, 130, 3, Shape(4, 256, 512)),
        (9, 257, 1, None),
    ],
)
def test_prompts_of_one_length(count, length, rows, shape):
    first, *others = prompts(*[length] * count)
    group = group_of(first, others, NOTHING)
    assert (len(group.jobs), group.shape) == (rows, shape)
    assert group.jobs[0] is first


def test_prompts_of_mixed_lengths_are_packed_in_their_order():
    jobs = prompts(200, 30, 100, 250, 60, 300, 90)
    group = group_of(jobs[0], jobs[1:], NOTHING)
    assert [len(job.prompt) for job in group.jobs] == [200, 30, 100, 60]
    assert group.shape == Shape(4, 256, 512)


def test_no_group_computes_fewer_tokens_in_its_time_than_the_first_alone():
    rng = np.random.default_rng(3)
    for _ in range(200):
        lengths = rng.integers(1, 300, rng.integers(1, 20))
        first, *others = prompts(*map(int, lengths))
        group = group_of(first, others, NOTHING)
        assert group.jobs[0] is first
        if group.shape is None:
            assert group.jobs == (first,)
            continue
        sizes = [len(job.prompt) for job in group.jobs]
        assert group.shape in SHAPES
        assert len(sizes) <= group.shape.rows and max(sizes) <= group.shape.width
        assert sum(sizes) <= group.shape.tokens
        alone = next(n for n in (16, 32, 64, 128, 256, 512) if n >= sizes[0])
        per_token = sum(sizes) / (OVERHEAD + group.shape.tokens)
        assert per_token > sizes[0] / (OVERHEAD + alone)


def test_prompts_that_are_scored_otherwise_are_computed_apart():
    first, *others = [job((i, 1, 2), score=i % 2) for i in range(8)]
    assert [j.score for j in group_of(first, others, NOTHING).jobs] == [0] * 4
    first, *others = [job((i, 1, 2), score=None if i % 2 else 0) for i in range(8)]
    assert [j.score for j in group_of(first, others, NOTHING).jobs] == [0] * 4


def test_prompts_with_a_common_beginning_wait_for_it():
    start = tuple(range(40))
    first, *others = [job((*start, 100 + i)) for i in range(5)]
    assert group_of(first, others, NOTHING) == Group((first,))
    far = prompts(60, 60, 60)
    assert group_of(first, [*others, *far], NOTHING).jobs == (first, *far)
    known = stored(first.prompt)
    assert group_of(others[0], others[1:], known) == Group((others[0],))
    assert group_of(far[0], others, known) == Group((far[0],))


def test_equal_prompts_are_computed_once():
    """Also those too short to be continued from, with other numbers of alternatives."""
    first, *others = [job((1, 2, 3), score=score) for score in (50, 5, 50, 1)]
    assert group_of(first, others, NOTHING) == Group((first,))
    far = [job((i, 1, 2), score=2) for i in (8, 9, 8, 9)]
    assert group_of(first, [*others, *far], NOTHING).jobs == (first, *far[:2])


def test_what_is_stored_need_not_be_computed():
    ids = tuple(range(40))
    assert reusable(job((*ids, 99)), NOTHING) == (None, 0)
    known = stored(ids)
    assert reusable(job((*ids, 99)), known)[1] == 40
    assert reusable(job(ids[:30]), known)[1] == 29
    assert reusable(job((*ids[:15], 99)), known) == (None, 0)


def test_what_is_scored_need_not_be_scored_again():
    ids = tuple(range(40))
    assert reusable(job((*ids, 99), score=0), stored(ids)) == (None, 0)
    known = stored(ids, scores=2)
    assert reusable(job((*ids, 99), score=2), known)[1] == 39
    assert reusable(job((*ids, 99), score=3), known) == (None, 0)
    assert reusable(job((*ids, 99)), known)[1] == 40


def test_leading_ids_in_common():
    rng = np.random.default_rng(0)
    for _ in range(300):
        one, other = (tuple(map(int, rng.integers(0, 2, rng.integers(0, 9)))) for _ in range(2))
        same = 0
        while same < min(len(one), len(other)) and one[same] == other[same]:
            same += 1
        assert in_common(one, other) == same
