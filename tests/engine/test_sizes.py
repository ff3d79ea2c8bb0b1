"""A batch that changes its size: rows keep what they hold, and few programs serve all changes."""

from __future__ import annotations

import contextlib
import queue
import time
from collections.abc import Iterator
from typing import Any

import pytest
from flax import nnx

from tests.models.tiny_families import CASES
from toolkit.engine.engine import Engine
from toolkit.engine.job import Event, Failed, Job, Ticket, Tokens
from toolkit.engine.programs import drop_programs
from toolkit.engine.scheduler import Limits
from toolkit.models.decoder import Decoder
from toolkit.models.families import read_config
from toolkit.sampling.params import SamplingParams

MOVES = ("take_row", "put_row")


@pytest.fixture
def engine() -> Iterator[Engine]:
    config = read_config(CASES["llama"] | {"max_position_embeddings": 1024})
    limits = Limits(strict=True, min_rows=2, max_rows=16, context=1024)
    with contextlib.closing(Engine(Decoder(config, rngs=nnx.Rngs(0)), limits=limits)) as made:
        yield made


def jobs(count: int, most: int, *, first: int = 0) -> list[Job]:
    return [
        Job(
            prompt=(1, 2, 3 + seed),
            params=SamplingParams(temperature=1.0, seed=seed),
            max_tokens=most,
        )
        for seed in range(first, first + count)
    ]


def until(
    tickets: list[Ticket], events: queue.SimpleQueue[Event], enough: int
) -> dict[Ticket, list[Any]]:
    """Tokens with their logprobs, read until each ticket has so many or is over."""
    found: dict[Ticket, list[Any]] = {ticket: [] for ticket in tickets}
    while any(len(tokens) < enough for tokens in found.values()):
        event = events.get(timeout=120)
        if isinstance(event, Failed):
            raise event.error
        if isinstance(event, Tokens):
            found[event.ticket] += [(token.id, token.logprob) for token in event.tokens]
    return found


def grow(engine: Engine, few: int, more: int) -> None:
    """Some sequences run, others join them, and all leave."""
    early, events = engine.submit(jobs(few, 240))
    until(early, events, 1)
    assert len(engine._scheduler.rows) == max(2, few)
    late, joining = engine.submit(jobs(more, 240, first=few))
    until(late, joining, 1)
    assert len(engine._scheduler.rows) == few + more
    leave(engine, [*early, *late])


def leave(engine: Engine, tickets: list[Ticket]) -> None:
    """End before all tokens are drawn, and wait for it."""
    engine.cancel(tickets)
    while engine.running:
        time.sleep(0.001)


def test_sizes_that_were_met_compile_nothing_whichever_follows_whichever(engine):
    drop_programs()  # those of other tests, so that the engine need not do it meanwhile
    for rows in (2, 4, 8, 16, 2):  # each from the beginning, and the first one again
        tickets, events = engine.submit(jobs(rows, 240))
        until(tickets, events, 1)
        leave(engine, tickets)
    before = dict(engine.steps.traces)
    for few, more in ((2, 2), (2, 6), (2, 14), (4, 4), (4, 12), (8, 8)):
        grow(engine, few, more)
    changed = {name for name, count in engine.steps.traces.items() if count != before.get(name)}
    assert not changed & {*MOVES}
    assert before["take_row"] == before["put_row"] == 4


def test_a_row_that_moves_goes_on_as_it_would_alone(engine):
    """Sixteen sequences of different lengths: the batch gets fewer rows, then more slots."""
    asked = [job for n in range(16) for job in jobs(1, 20 + 30 * n, first=n)]
    tickets, events = engine.submit(asked)
    together = until(tickets, events, 20)
    for ticket, tokens in until_over(tickets, events).items():
        together[ticket] += tokens
    moved = {name: engine.steps.traces[name] for name in MOVES}
    assert min(moved.values()) >= 3
    for job, ticket in list(zip(asked, tickets, strict=True))[::3]:
        (own,), events = engine.submit([job])
        alone = until([own], events, job.max_tokens)
        assert alone[own] == together[ticket]


def until_over(tickets: list[Ticket], events: queue.SimpleQueue[Event]) -> dict[Ticket, list[Any]]:
    """What is left of all answers."""
    found: dict[Ticket, list[Any]] = {ticket: [] for ticket in tickets}
    while not (all(ticket.over for ticket in tickets) and events.empty()):
        event = events.get(timeout=120)
        if isinstance(event, Tokens):
            found[event.ticket] += [(token.id, token.logprob) for token in event.tokens]
    return found
