"""A step that raises while one sequence is there: that one fails, the others are as if alone."""

from __future__ import annotations

import dataclasses
import queue
import threading
from collections.abc import Callable, Iterator
from typing import Any

import jax
import pytest

import toolkit
from tests.contract import toys
from tests.oracle.toy import write_toy
from toolkit.completion.complete import LM
from toolkit.engine.engine import Engine
from toolkit.engine.job import Ended, Failed, Job, Ticket, TokenEvent, Tokens
from toolkit.engine.trials import PATIENCE, Trials
from toolkit.errors import EngineFault
from toolkit.sampling.params import SamplingParams

EMPTY = ()
POISON = "%%"
ASKED = {"max_tokens": 40, "logprobs": 3, "details": True, "ignore_eos": True}
NEIGHBOURS: list[dict[str, Any]] = [
    {"prompt": "q", "seed": 1, "temperature": 1.3},
    {"prompt": "r", "seed": 2, "frequency_penalty": 1.5},
    {"prompt": "s", "seed": 3, "top_p": 0.8, "top_k": 40},
    {"prompt": "t", "seed": 4, "guided_choice": ["a" * 20 + "b", "a" * 20 + "c", "b" * 30]},
    {"prompt": "u" * 20, "temperature": 0},
]


@pytest.fixture(scope="module")
def lm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LM]:
    """The toy in strict mode, with time to meet in the batch."""
    folder = tmp_path_factory.mktemp("trials") / "toy"
    write_toy(folder, toys.table(), toys.VOCABULARY, context=256)
    with toolkit.load(folder, max_batch=8, strict=True) as loaded:
        yield loaded


def present(engine: Engine) -> bool:
    """Whether the poisoned sequence has a row, or is on its way to one."""
    poison = tuple(map(ord, POISON))
    tickets = [*engine._scheduler.running, *(ticket for ticket, _ in engine._arriving)]
    return any(ticket.job.prompt == poison for ticket in tickets)


def breaking(engine: Engine, act: Callable, *, after: int, late: bool) -> Callable:
    """`act`, which raises from its call number `after` with the poison on; `late`: when its work is
    done and the state that went in is gone."""
    calls = iter(range(10**6))

    def broken(*args: Any) -> Any:
        if not present(engine) or next(calls) < after:
            return act(*args)
        if late:
            jax.block_until_ready(act(*args))
        raise RuntimeError("injected")

    return broken


def bits(choice: Any) -> list[Any]:
    return [dataclasses.astuple(token) for token in choice.tokens]


def ask_all(lm: LM, requests: list[dict[str, Any]]) -> list[Any]:
    """Every request from a thread of its own; the choice, or the error."""
    found: list[Any] = [None] * len(requests)

    def ask(place: int) -> None:
        try:
            found[place] = bits(lm.complete(**ASKED | requests[place]).record.choices[0])
        except EngineFault as error:
            found[place] = error

    threads = [threading.Thread(target=ask, args=[i]) for i in range(len(requests))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found


@pytest.mark.parametrize("late", [False, True], ids=["before", "after"])
@pytest.mark.parametrize(
    ("place", "after"),
    [("insert", 0), ("first", 0), ("decode", 0), ("decode", 9), ("read", 0), ("read", 12)],
)
def test_only_the_sequence_that_makes_steps_fail_fails(
    lm: LM, monkeypatch: pytest.MonkeyPatch, place: str, after: int, late: bool
):
    alone = [ask_all(lm, [request])[0] for request in NEIGHBOURS]
    engine = lm.engine
    where = engine if place == "read" else engine.steps
    name = "_read" if place == "read" else place
    broken = breaking(engine, getattr(where, name), after=after, late=late)
    if place == "read":
        monkeypatch.setattr(engine, name, broken)
    else:
        monkeypatch.setitem(vars(engine.steps), name, broken)
    requests = [*NEIGHBOURS[:3], {"prompt": POISON, "seed": 9}, *NEIGHBOURS[3:]]
    found = ask_all(lm, requests)
    guilty = found.pop(3)
    assert isinstance(guilty, EngineFault) and "injected" in guilty.message
    assert found == alone
    monkeypatch.undo()
    assert ask_all(lm, [*NEIGHBOURS, {"prompt": POISON, "seed": 9}])[:-1] == alone
    assert not engine._trials and engine.running == 0


def test_a_prompt_that_fails_fails_alone(lm: LM, monkeypatch: pytest.MonkeyPatch):
    alone = [ask_all(lm, [request])[0] for request in NEIGHBOURS]
    lm.engine.forget_prompts()
    prefill, poison = lm.engine.steps.prefill, " ".join(str(ord(letter)) for letter in POISON)

    def broken(leaves: Any, cache: Any, tokens: Any, *rest: Any) -> Any:
        if poison in " ".join(map(str, tokens.reshape(-1))):  # alone or in a group
            raise RuntimeError("injected")
        return prefill(leaves, cache, tokens, *rest)

    monkeypatch.setitem(vars(lm.engine.steps), "prefill", broken)
    found = ask_all(lm, [{"prompt": POISON}, *NEIGHBOURS])
    assert "Prefill failed" in found.pop(0).message
    assert found == alone


def test_a_token_that_cannot_be_passed_on_fails_its_own_sequence(
    lm: LM, monkeypatch: pytest.MonkeyPatch
):
    alone = [ask_all(lm, [request])[0] for request in NEIGHBOURS]
    take, poison = Ticket.take, tuple(map(ord, POISON))

    def broken(ticket: Ticket, tokens: Any) -> None:
        if ticket.job.prompt == poison:
            raise RuntimeError("injected")
        take(ticket, tokens)

    monkeypatch.setattr(Ticket, "take", broken)
    steps = lm.engine.stats.steps
    found = ask_all(lm, [{"prompt": POISON}, *NEIGHBOURS])
    assert "could not be passed on" in found.pop(0).message
    assert found == alone
    assert lm.engine.stats.steps - steps < 100, "nobody was computed again"


def test_a_fault_that_passes_fails_nobody(lm: LM, monkeypatch: pytest.MonkeyPatch):
    alone = [ask_all(lm, [request])[0] for request in NEIGHBOURS]
    decode, calls = lm.engine.steps.decode, iter(range(10**6))

    def broken(*args: Any) -> Any:
        if next(calls) == 7:
            raise MemoryError("injected")
        return decode(*args)

    monkeypatch.setitem(vars(lm.engine.steps), "decode", broken)
    assert ask_all(lm, NEIGHBOURS) == alone


def test_a_stream_goes_on_where_it_was_and_says_nothing_twice(
    lm: LM, monkeypatch: pytest.MonkeyPatch
):
    asked = {"prompt": "q", "seed": 1, "max_tokens": 60, "ignore_eos": True, "prompt_logprobs": 1}
    expected = lm.complete(**asked)["choices"][0]["text"]
    del asked["prompt_logprobs"]
    decode, calls = lm.engine.steps.decode, iter(range(10**6))

    def broken(*args: Any) -> Any:
        if next(calls) in (20, 90):
            raise RuntimeError("injected")
        return decode(*args)

    monkeypatch.setitem(vars(lm.engine.steps), "decode", broken)
    pieces = [choice["text"] for chunk in lm.stream(**asked) for choice in chunk["choices"]]
    assert "".join(pieces) == expected


def test_when_every_step_fails_every_sequence_does_and_the_engine_lives(
    lm: LM, monkeypatch: pytest.MonkeyPatch
):
    def broken(*args: Any) -> None:
        raise RuntimeError("injected")

    alone = ask_all(lm, NEIGHBOURS[:1])
    with monkeypatch.context() as patch:
        patch.setitem(vars(lm.engine.steps), "decode", broken)
        assert all(isinstance(e, EngineFault) for e in ask_all(lm, NEIGHBOURS * 4))
    assert ask_all(lm, NEIGHBOURS[:1]) == alone


def test_who_only_fails_in_company_gets_a_few_chances(lm: LM, monkeypatch: pytest.MonkeyPatch):
    """Nobody is guilty alone, and yet the engine must not try for ever."""
    decode = lm.engine.steps.decode

    def broken(*args: Any) -> Any:
        if len(lm.engine._scheduler.running) > 1:
            raise RuntimeError("injected")
        return decode(*args)

    monkeypatch.setitem(vars(lm.engine.steps), "decode", broken)
    with pytest.raises(EngineFault, match="injected"):
        lm.complete("q", n=4, **ASKED)
    assert len(ask_all(lm, NEIGHBOURS[:1])[0]) == 40


def test_closing_in_the_middle_of_a_trial_ends_everybody(tmp_path: Any):
    write_toy(tmp_path / "toy", toys.table(), toys.VOCABULARY, context=256)
    lm = toolkit.load(tmp_path / "toy", max_batch=4, strict=True)
    decode, closing = lm.engine.steps.decode, threading.Event()

    def broken(*args: Any) -> Any:
        if len(lm.engine._scheduler.running) > 2:
            raise RuntimeError("injected")
        if lm.engine._trials:
            lm.engine.stop()
            closing.set()
        return decode(*args)

    vars(lm.engine.steps)["decode"] = broken
    with pytest.raises(toolkit.errors.EngineClosed):
        lm.complete("q", n=12, **ASKED)
    assert closing.is_set()
    lm.close()


# --- the bookkeeping alone ------------------------------------------------------------------------


def tickets(count: int, generated: int = 3) -> list[Ticket]:
    job = Job(prompt=(1,), params=SamplingParams(), max_tokens=9)
    made = [Ticket(job, queue.SimpleQueue()) for _ in range(count)]
    for ticket in made:
        ticket.dispatched = generated + 1
        ticket.take([event(7)] * generated)
    return made


def event(token: int) -> TokenEvent:
    return TokenEvent(token, -1.0, -1.0, EMPTY, EMPTY, EMPTY, EMPTY)


def test_suspects_are_halved_until_one_fails_alone():
    a, b, c, d, e = tickets(5)
    trials = Trials()
    trials.held = [e]
    assert trials.accuse([a, b, c, d]) == []
    assert trials.waiting() == [a, b]
    assert not trials.acquit(), "they have not reached the place of the fault"
    for ticket in (a, b):
        ticket.generated = 5
    assert trials.acquit() and trials.waiting() == [c, d]
    assert trials.accuse([c]) == [c], "alone in the batch; its half had not been seated yet"
    assert trials.waiting() == [d]
    d.over = True
    assert trials.acquit()
    assert trials.waiting() == [a, b, e]
    assert not trials and [t.unexplained for t in (a, b, e)] == [0, 0, 0]


def test_faults_without_a_culprit_are_counted():
    a, b = tickets(2)
    trials = Trials()
    for round_ in range(PATIENCE):
        assert trials.accuse([a, b]) == []
        for ticket in (a, b):
            ticket.generated = ticket.goal
            assert trials.acquit()
        assert trials.waiting() == [a, b]
        assert [a.unexplained, b.unexplained] == [round_ + 1] * 2
    assert trials.accuse([a, b]) == [a, b]


def test_rewound_tickets_pass_nothing_on_twice():
    (ticket,) = tickets(1)
    ticket.rewind()
    ticket.take([event(7), event(7)])
    ticket.take([event(7), event(8)])
    sent = [ticket.events.get_nowait() for _ in range(2)]
    assert [[t.id for t in tokens.tokens] for tokens in sent if isinstance(tokens, Tokens)] == [
        [7, 7, 7],
        [8],
    ]
    ticket.take([event(9)] * 9)
    assert isinstance(ticket.events.get_nowait(), Tokens)
    assert ticket.events.get_nowait() == Ended(ticket, "length")


def test_another_token_than_before_is_a_fault():
    (ticket,) = tickets(1)
    ticket.rewind()
    ticket.take([event(7), event(6)])
    ticket.events.get_nowait()
    failed = ticket.events.get_nowait()
    assert isinstance(failed, Failed) and "another token" in failed.error.message
