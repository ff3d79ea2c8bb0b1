"""Rows and buckets, on the host alone."""

from __future__ import annotations

import queue

import pytest

from toolkit.engine.job import Ended, Job, Ticket, TokenEvent, Tokens
from toolkit.engine.prefill import padded
from toolkit.engine.scheduler import (
    Limits,
    Scheduler,
    chunk_bucket,
    expected,
    prompt_slots,
    row_bucket,
    slot_bucket,
    used,
)
from toolkit.sampling.params import SamplingParams

EMPTY = ()


def ticket(prompt: int = 5, max_tokens: int = 10, **job) -> Ticket:
    made = Job(prompt=(1,) * prompt, params=SamplingParams(), max_tokens=max_tokens, **job)
    return Ticket(made, queue.SimpleQueue())


def event(token: int) -> TokenEvent:
    return TokenEvent(token, -1.0, -1.0, EMPTY, EMPTY, EMPTY, EMPTY)


@pytest.mark.parametrize(("need", "size"), [(1, 1), (2, 2), (3, 4), (16, 16), (17, 32), (200, 256)])
def test_row_buckets(need, size):
    assert row_bucket(need) == size


@pytest.mark.parametrize(
    ("need", "rows", "size"),
    [(1, 1, 256), (256, 8, 256), (257, 1, 512), (1025, 2, 2048), (1, 16, 64), (65, 64, 128)],
)
def test_slot_buckets(need, rows, size):
    assert slot_bucket(need, rows) == size


@pytest.mark.parametrize(("need", "size"), [(1, 64), (64, 64), (65, 128), (1025, 2048)])
def test_a_prompt_on_its_own_takes_fewer_slots(need, size):
    assert prompt_slots(need) == size


def test_room_is_made_for_short_completions_at_once_and_for_long_ones_as_they_grow():
    assert expected(ticket(prompt=5, max_tokens=10).job) == 15
    assert expected(ticket(prompt=5, max_tokens=1000).job) == 5 + 128
    assert expected(ticket(prompt=5, max_tokens=0).job) == 6


def test_a_long_prompt_takes_chunks_of_512_and_a_padded_rest():
    assert [chunk_bucket(n) for n in (1, 16, 17, 300, 512, 5000)] == [16, 16, 32, 512, 512, 512]
    assert padded(513) == 512 + 16
    assert padded(1100) == 512 + 512 + 128


def test_slots_in_use_end_with_the_budget():
    t = ticket(prompt=5, max_tokens=10)
    t.dispatched = 4
    assert used(t, ahead=3) == 12
    assert used(t, ahead=100) == 15


def test_the_batch_grows_at_once_and_shrinks_with_patience():
    scheduler = Scheduler(Limits(patience=4, haste=2))
    assert scheduler.wanted_rows(arriving=5) == 8
    scheduler.rearrange(8)
    seats = [ticket() for _ in range(5)]
    for one in seats:
        scheduler.seat(one)
    for one in seats[1:]:
        one.over = True
    scheduler.drop_finished()
    assert scheduler.wanted_rows(0, ready=[1, 2]) == 8
    scheduler.note_steps(2)
    assert scheduler.wanted_rows(0) == 8
    assert scheduler.wanted_rows(0, ready=[4, 2, 16]) == 2
    scheduler.note_steps(2)
    assert scheduler.wanted_rows(0, ready=[4, 2]) == 1
    assert scheduler.rearrange(1) == [0]


def test_strict_mode_has_two_rows_at_least():
    assert Scheduler(Limits(min_rows=2)).wanted_rows(arriving=1) == 2


def test_rearranging_moves_the_rows_that_run_to_the_front():
    scheduler = Scheduler(Limits())
    scheduler.rearrange(4)
    seats = [ticket() for _ in range(4)]
    for one in seats:
        scheduler.seat(one)
    seats[0].cancelled = seats[2].cancelled = True
    scheduler.drop_finished()
    assert scheduler.rearrange(2) == [1, 3]
    assert [t.row for t in scheduler.running] == [0, 1]


def test_where_devices_hold_rows_of_their_own_each_has_as_many_as_the_others():
    """Two devices, four rows each: rows 0 to 3 and 4 to 7. A row never changes its device."""
    scheduler = Scheduler(Limits(min_rows=2, groups=2, patience=0))
    assert scheduler.wanted_rows(arriving=5) == 8
    scheduler.rearrange(8)
    seats = [ticket() for _ in range(5)]
    assert [scheduler.seat(one) for one in seats] == [0, 4, 1, 5, 2]
    seats[0].over = seats[1].over = seats[3].over = True
    scheduler.drop_finished()
    assert scheduler.wanted_rows(0) == 4  # two run, but on the same device
    assert scheduler.rearrange(4) == [1, 2, 0, 0]
    assert [t and t.row for t in scheduler.rows] == [0, 1, None, None]
    assert scheduler.seat(ticket()) == 2


def test_a_ticket_ends_at_a_stop_id_and_forgets_what_was_drawn_after_it():
    t = ticket(stop_ids=frozenset({7}))
    t.take([event(3), event(7), event(4)])
    first, last = t.events.get_nowait(), t.events.get_nowait()
    assert isinstance(first, Tokens) and [e.id for e in first.tokens] == [3, 7]
    assert last == Ended(t, "stop", 7)
    assert t.over


def test_a_ticket_ends_with_its_budget_and_a_stop_id_on_the_last_token_wins():
    t = ticket(max_tokens=2)
    t.take([event(3), event(4)])
    t.events.get_nowait()
    assert t.events.get_nowait().reason == "length"
    t = ticket(max_tokens=2, stop_ids=frozenset({4}))
    t.take([event(3), event(4)])
    t.events.get_nowait()
    assert t.events.get_nowait().reason == "stop"
