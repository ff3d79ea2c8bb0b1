"""Section 6, cases 102 to 104 and 106: requests beside each other, and those that end early."""

from __future__ import annotations

import gc
import signal
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.contract.surfaces import (
    S,
    as_sent,
    joined,
    legacy_answer,
    legacy_events,
    record_of,
    request_of,
    strict_answer,
    strict_events,
)
from tests.contract.toys import CONTEXT, EOS, ROWS
from toolkit.completion.complete import LM
from toolkit.completion.response import legacy_error, stream_error, strict_error
from toolkit.completion.run import Run
from toolkit.errors import EngineFault, QueueFull

ENDLESS = {"max_tokens": CONTEXT - 1, "logit_bias": {str(EOS): -100}, "seed": 1}


def answers(lm: LM) -> list[Any]:
    """Requests of many kinds, one after the other."""
    return [call(lm, **fields)["choices"] for call, fields in mixed(4)]


def mixed(count: int) -> list[tuple[Any, dict[str, Any]]]:
    """Greedy, seeded, guided, penalised, scored and streamed requests, `count` of each kind."""
    return [
        pair
        for seed in range(count)
        for pair in (
            (strict_answer, {"prompt": "q", "temperature": 0, "max_tokens": 10 + seed}),
            (strict_answer, {"prompt": "r", "seed": seed, "logprobs": True}),
            (strict_answer, {"prompt": "s", "seed": seed, "guided_choice": ["joy", "a", "ab"]}),
            (streamed, {"prompt": "t", "seed": seed, "n": 3, "stop": ["b", "\ufffd\ufffd\ufffd"]}),
            (legacy_answer, {"prompt": "uq", "seed": seed, "top_k": 5, "min_p": 0.1, "n": 2}),
            (legacy_answer, {"prompt": "vq", "seed": seed, "frequency_penalty": 2, "logprobs": 3}),
            (strict_answer, {"prompt": "w" * seed + "A", "prompt_logprobs": 2, "echo": True}),
            (strict_answer, {"prompt": ["x", "y"], "seed": seed, "best_of": 4, "n": 2}),
        )
    ]


def streamed(lm: LM, prompt: Any, **fields: Any) -> dict[str, Any]:
    return {"choices": list(joined(strict_events(lm, prompt, **fields)).values())}


def test_case_106_concurrent_requests_equal_their_solo_runs(toy: LM):
    alone = answers(toy)
    with ThreadPoolExecutor(32) as pool:
        running = [pool.submit(call, toy, **fields) for call, fields in mixed(4)]
        together = [future.result()["choices"] for future in running]
    assert len(together) == 32
    for number, (one, other) in enumerate(zip(together, alone, strict=True)):
        assert in_order(one) == in_order(other), mixed(4)[number]


def in_order(choices: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return sorted(choices, key=lambda choice: choice["index"])


def test_case_103_a_closed_stream_leaves_its_neighbours_alone(toy: LM):
    expected = strict_answer(toy, ["q", "r"], n=2, seed=5)["choices"]
    neighbour = Run(toy, request_of(toy, ["q", "r"], S, n=2, seed=5))
    stream = toy.stream(["s"] * ROWS, **ENDLESS)
    for _ in range(5):
        next(stream)
    stream.close()
    assert strict_answer(toy, ["q", "r"], n=2, seed=5)["choices"] == expected
    texts = [choice.text for choice in neighbour.finish().choices]
    assert texts == [choice["text"] for choice in expected]
    assert list(stream) == []


def generated_by(lm: LM, act: Any) -> int:
    """Tokens that the engine draws for what `act` starts and a short request after it."""
    before = lm.engine.stats.generated
    act()
    assert strict_answer(lm, "J", n=ROWS)["choices"][0]["text"] == "ok"
    return lm.engine.stats.generated - before


def test_case_103_a_closed_stream_gives_its_rows_back(toy: LM):
    def close_early() -> None:
        stream = toy.stream(["s"] * 256, **ENDLESS)
        next(stream)
        stream.close()

    def drop_early() -> None:
        stream = toy.stream(["s"] * 256, **ENDLESS)
        next(stream)
        del stream
        gc.collect()

    whole = 256 * (CONTEXT - 1)
    assert generated_by(toy, close_early) < whole / 2
    assert generated_by(toy, drop_early) < whole / 2


def test_case_103_a_stream_closed_before_its_first_chunk_stops_too(toy: LM):
    whole = 256 * (CONTEXT - 1)
    assert generated_by(toy, lambda: toy.stream(["s"] * 256, **ENDLESS).close()) < whole / 2


def test_an_interrupt_stops_a_completion_and_the_next_one_works(toy: LM, interruptible: None):
    """As Ctrl-C does: a signal in the main thread, which waits for the answer."""
    assert threading.current_thread() is threading.main_thread()
    expected = strict_answer(toy, "q", n=ROWS, seed=5)["choices"]
    begun, before = toy.engine.stats.steps, toy.engine.stats.generated
    done = threading.Event()

    def interrupt() -> None:
        while toy.engine.stats.generated < before + 100 and not done.wait(0.001):
            pass
        if not done.is_set():
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

    watcher = threading.Thread(target=interrupt)
    watcher.start()
    try:
        with pytest.raises(KeyboardInterrupt):
            toy.complete(["s"] * 256, **ENDLESS)
    finally:
        done.set()
        watcher.join()
    assert strict_answer(toy, "q", n=ROWS, seed=5)["choices"] == expected
    steps = 256 // ROWS * CONTEXT  # of the whole; the next completion did not wait for them
    assert toy.engine.stats.steps - begun < steps / 2


def test_case_102_a_fault_midway_is_told_and_harms_nothing_later(
    toy: LM, monkeypatch: pytest.MonkeyPatch
):
    expected = strict_answer(toy, "q", seed=5)["choices"]
    stream = toy.stream(["s"] * 4, **ENDLESS)
    next(stream)
    with monkeypatch.context() as patch:
        patch.setattr(toy.engine, "_read", _broken)
        with pytest.raises(EngineFault, match="A step failed") as caught:
            list(stream)
    frame = as_sent(stream_error(caught.value))["error"]
    assert set(frame) == {"message", "type", "code", "status", "title", "detail"}
    assert (frame["type"], frame["status"]) == ("server_error", 500)
    assert strict_answer(toy, "q", seed=5)["choices"] == expected


def _broken(block: object) -> None:
    raise RuntimeError("the device is gone")


def test_case_104_a_full_queue_refuses_and_recovers(
    toy: LM, monkeypatch: pytest.MonkeyPatch, specification: dict[str, Any]
):
    with monkeypatch.context() as patch:
        patch.setattr(toy.engine, "max_waiting", 3)
        with pytest.raises(QueueFull) as caught:
            toy.stream(["J"] * 4)
        assert strict_answer(toy, ["J"] * 3)["choices"][2]["text"] == "ok"
    assert caught.value.retry_after >= 1
    body = as_sent(strict_error(caught.value))
    assert (body["status"], body["title"]) == (429, "Too Many Requests")
    assert legacy_error(caught.value)["error"]["type"] == "rate_limit_error"
    assert strict_answer(toy, ["J"] * 4)["choices"][3]["text"] == "ok"


def test_more_sequences_than_rows_wait_for_their_turn(toy: LM):
    record = record_of(toy, ["A"] * 5, n=ROWS, temperature=0)
    assert [choice.text for choice in record.choices] == ["one two three"] * 5 * ROWS
    events = legacy_events(toy, "A", n=3 * ROWS)
    assert {choice["text"] for choice in joined(events).values()} == {"one two three"}
