"""Rows with first slots in common read them in one place, and no bit tells."""

from __future__ import annotations

import contextlib
import dataclasses
import queue
from collections.abc import Iterator
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from tests.models.tiny_families import CASES
from toolkit import kernels
from toolkit.engine import batch
from toolkit.engine.engine import Engine
from toolkit.engine.job import Event, Failed, Job, Ticket, Tokens
from toolkit.engine.prefixes import Prefix, lineage_of, shared_slots
from toolkit.engine.scheduler import Limits, used
from toolkit.models.attention import attend
from toolkit.models.cache import KVCache, LayerCache, SharedPrefixes
from toolkit.models.decoder import Decoder
from toolkit.models.families import read_config
from toolkit.sampling.params import SamplingParams

ROWS, SLOTS, WIDTH = 4, 50, 16


def whole(*numbers: int) -> Any:
    return jnp.asarray(numbers, jnp.int32)


@pytest.fixture
def layer() -> LayerCache:
    """Four rows of two heads; rows 1 and 3 begin like row 2, with 33 and 20 slots."""
    rng = np.random.default_rng(0)
    keys, values = rng.standard_normal((2, ROWS, 2, SLOTS, WIDTH), np.float32)
    for x in (keys, values):
        x[1, :, :33], x[3, :, :20] = x[2, :, :33], x[2, :, :20]
    return LayerCache(*(jnp.asarray(x.reshape(-1, SLOTS, WIDTH)) for x in (keys, values)))


@pytest.mark.parametrize("cap", [None, 2.0])
@pytest.mark.parametrize("window", [None, 1, 9, 25])
def test_attention_has_the_same_bits(layer, window, cap):
    tokens = np.random.default_rng(1).standard_normal((ROWS, 1, 10 * WIDTH), np.float32)
    start, shared = whole(40, 33, 41, 21), SharedPrefixes(whole(0, 2, 2, 2), whole(0, 33, 0, 20))
    spoilt = LayerCache(
        *(x.at[2:4, :33].set(np.nan).at[6:8, :20].set(np.nan) for x in (layer.keys, layer.values))
    )

    def mixed(layer: LayerCache, shared: SharedPrefixes | None) -> np.ndarray:
        with kernels.using("attention"):
            settings = {"window": window, "cap": cap}
            read, _ = attend(jnp.asarray(tokens), None, layer, start, shared, **settings)
            return np.asarray(read)

    own = mixed(layer, None)
    np.testing.assert_array_equal(mixed(layer, shared), own)
    np.testing.assert_array_equal(mixed(spoilt, shared), own)  # their own are not read


def test_more_is_told_to_be_shared_than_a_row_sees(layer):
    tokens = jnp.ones((ROWS, 1, 6 * WIDTH))
    start = whole(40, 5, 41, 0)
    with kernels.using("attention"):
        own, _ = attend(tokens, None, layer, start)
        shared = SharedPrefixes(whole(0, 2, 2, 2), whole(0, 33, 0, 20))
        found, _ = attend(tokens, None, layer, start, shared)
    np.testing.assert_array_equal(found, own)


def prefix(ids: str, near: Prefix | None = None, reused: int = 0) -> Prefix:
    numbers = tuple(map(ord, ids))
    lineage = lineage_of(numbers, near, reused)
    return Prefix(numbers, KVCache(layers=()), jnp.zeros(1), lineage=lineage)


def shared(*prompts: Prefix | None) -> list[tuple[int, int]]:
    """Of each row the row that it reads in, and how many slots."""
    return shared_slots([p.lineage if p else {} for p in prompts])


def test_rows_of_one_prompt_read_in_the_first_of_them():
    one, other = prefix("abcdef"), prefix("abcdef")
    assert shared() == []
    assert shared(one) == [(0, 0)]
    assert shared(None, one, None, one, one) == [(0, 0), (0, 0), (0, 0), (1, 6), (1, 6)]
    assert shared(one, other) == [(0, 0), (0, 0)], "computed apart, their bits may differ"


def test_prompts_that_were_continued_from_others_share_what_was_copied():
    root = prefix("abcdef")
    longer = prefix("abcdefgh", root, 6)
    fork = prefix("abcdefgz", longer, 7)
    short = prefix("abq", fork, 2)
    assert shared(root, longer, fork, short) == [(0, 0), (0, 6), (1, 7), (0, 2)]
    assert shared(fork, longer) == [(0, 0), (0, 7)]
    assert shared(short, root, longer) == [(0, 0), (0, 2), (1, 6)]
    assert shared(longer, None, fork) == [(0, 0), (0, 0), (0, 7)]


def test_a_lineage_is_as_deep_as_it_says_something():
    """Prompts with a common beginning, one continued from the other for ever."""
    root = last = prefix("abcdef")
    for _ in range(1000):
        last = prefix("abcxyz", last, 3)
    assert list(last.lineage.values()) == [3, 6]
    assert shared(root, last, prefix("abcq", last, 3)) == [(0, 0), (0, 3), (0, 3)]


def test_shared_slots_are_counted_once(engine):
    """Also when the row that they are read in has no sequence any more."""
    jobs = [job(list(range(40)), seed, most) for seed, most in enumerate((2, 450, 450))]
    tickets, events = engine.submit(jobs)
    while len(engine._scheduler.running) != 2 or not all(t.generated for t in tickets):
        event = events.get(timeout=120)
        assert not isinstance(event, Failed)
    counts = engine._batch.read_slots()
    own = sum(used(ticket, 0) for ticket in engine._scheduler.running)
    assert abs(own - counts - 40) <= 4  # the engine goes on meanwhile
    engine.cancel(tickets)


@pytest.fixture
def engine() -> Iterator[Engine]:
    """Strict, so that an answer has the same bits alone."""
    config = read_config(CASES["llama"] | {"head_dim": WIDTH, "max_position_embeddings": 512})
    config = dataclasses.replace(config, kernels="decoding")
    limits = Limits(strict=True, max_rows=8, context=config.context, patience=3, haste=1)
    made = Engine(Decoder(config, rngs=nnx.Rngs(0)), limits=limits)
    with contextlib.closing(made):
        yield made


def job(prompt: list[int], seed: int, most: int) -> Job:
    params = SamplingParams(temperature=0.9, seed=seed)
    return Job(prompt=tuple(prompt), params=params, max_tokens=most)


def answer(ticket: Ticket, events: queue.SimpleQueue[Event], *, after: int = 0) -> list[Any]:
    """The ticket's tokens and their logprobs, from `after` on."""
    found: list[Any] = []
    while True:
        event = events.get(timeout=120)
        if isinstance(event, Failed):
            raise event.error
        if isinstance(event, Tokens):
            found += [(token.id, token.logprob) for token in event.tokens]
        if ticket.over and events.empty():
            return found[after:]


def test_no_answer_depends_on_who_leaves_comes_and_moves(engine, monkeypatch):
    """Rows that others read in end, are cancelled and are filled with other prompts; the batch
    grows, shrinks, and its slots are resized."""
    told: list[list[int]] = []

    def watched(lineages: Any) -> list[tuple[int, int]]:
        found = shared_slots(lineages)
        told.append([length for _, length in found])
        return found

    monkeypatch.setattr(batch, "shared_slots", watched)
    rng = np.random.default_rng(3)
    size = engine.config.vocab_size
    root = rng.integers(0, size, 60).tolist()
    prompts = [root, [*root, 1, 2, 3], root[:40] + [5] * 30, rng.integers(0, size, 50).tolist()]
    jobs = [
        job(prompts[rng.choice(4, p=[0.5, 0.2, 0.2, 0.1])], seed, int(rng.choice([2, 9, 40, 150])))
        for seed in range(60)
    ]
    asked, cancelled = [], set()
    for number, each in enumerate(jobs):
        asked.append(engine.submit([each]))
        if number % 7 == 3:  # somebody leaves in the middle, and the next ones come later
            (ticket,), events = asked[int(rng.integers(number))]
            with contextlib.suppress(queue.Empty):
                events.get(timeout=0.05)
            if not ticket.over:
                cancelled.add(ticket)
                engine.cancel([ticket])
    found = {
        number: answer(ticket, events)
        for number, ((ticket,), events) in enumerate(asked)
        if ticket not in cancelled
    }
    assert sum(map(sum, told)) > 1000
    assert len({len(lengths) for lengths in told}) > 1, "the batch was resized"
    for number, together in found.items():
        engine.forget_prompts()
        (ticket,), events = engine.submit([jobs[number]])
        alone = answer(ticket, events)
        assert alone[len(alone) - len(together) :] == together
        assert len(together) >= len(alone) - 1
