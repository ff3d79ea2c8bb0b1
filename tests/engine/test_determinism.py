"""Strict mode: a request gives the same tokens and the same bits whatever runs beside it."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

import toolkit
from toolkit.completion.record import ChoiceRecord

PROMPT = "The history of the Roman empire begins"
LONG = " ".join(f"word number {i}," for i in range(60))
ASKED = {
    "max_tokens": 8,
    "seed": 5,
    "logprobs": 3,
    "details": True,
    "temperature": 0.9,
    "top_p": 0.95,
}


@pytest.fixture(scope="module", params=[False, True], ids=["xla", "kernels"])
def kernels(request: pytest.FixtureRequest) -> bool:
    """Whether products and attention are compiled C."""
    if request.param:
        pytest.importorskip("ziglang", reason="needs the extra [kernels]")
    return request.param


@pytest.fixture(scope="module")
def strict(kernels: bool) -> Iterator[toolkit.LM]:
    """The real model in strict mode."""
    with toolkit.load(strict=True, kernels=kernels) as lm:
        yield lm


@pytest.fixture(scope="module")
def alone(strict: toolkit.LM) -> list[tuple]:
    """What the request gives when nothing else runs."""
    return bits(strict.complete(PROMPT, **ASKED).record.choices[0])


def bits(choice: ChoiceRecord) -> list[tuple]:
    """Everything that a float can tell about the drawn tokens."""
    return [
        (t.id, t.logprob, t.sampling_logprob, t.entropy, t.sampling_entropy, t.kept_mass, t.top)
        for t in choice.tokens
    ]


def test_among_fifteen_strangers(strict, alone):
    strangers = [f"Stranger {i} says that" for i in range(15)]
    for row in (0, 7, 15):
        prompts = [*strangers[:row], PROMPT, *strangers[row:]]
        answer = strict.complete(prompts, **ASKED)
        assert bits(answer.record.choices[row]) == alone


def test_first_of_five_choices(strict, alone):
    assert bits(strict.complete(PROMPT, n=5, **ASKED).record.choices[0]) == alone


def test_joining_a_running_batch(strict, alone):
    stream = strict.stream("Somebody else", max_tokens=120, ignore_eos=True)
    next(stream)
    assert bits(strict.complete(PROMPT, **ASKED).record.choices[0]) == alone
    stream.close()


def test_after_a_cancelled_neighbour(strict, alone):
    stream = strict.stream("Somebody else", max_tokens=120, n=3, ignore_eos=True)
    next(stream)
    stream.close()
    assert bits(strict.complete(PROMPT, **ASKED).record.choices[0]) == alone


def test_from_other_threads_at_once(strict, alone):
    found: list[list[tuple]] = []

    def ask() -> None:
        found.append(bits(strict.complete(PROMPT, **ASKED).record.choices[0]))

    threads = [threading.Thread(target=ask) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [alone] * 6


def test_a_prompt_that_starts_like_a_stored_one(strict):
    """350 tokens, a cache of the second bucket; then all but the end of the prompt is reused."""
    first = bits(strict.complete(LONG, **ASKED).record.choices[0])
    strict.engine.forget_prompts()
    strict.complete(LONG[:-40] + " and now something else", max_tokens=1)
    reused = strict.stats().reused
    assert bits(strict.complete(LONG, **ASKED).record.choices[0]) == first
    assert strict.stats().reused - reused > 300


def test_default_mode_gives_the_same_tokens_to_rounding(strict, alone, lm):
    """One row alone runs another CPU kernel; logprobs agree to 1e-4, and here the tokens too."""
    choice = lm.complete(PROMPT, **ASKED).record.choices[0]
    assert [t.id for t in choice.tokens] == [ids for ids, *_ in alone]
    for token, (_, logprob, *_rest) in zip(choice.tokens, alone, strict=True):
        assert token.logprob == pytest.approx(logprob, abs=1e-4)


def test_with_kernels_a_lone_request_takes_one_row(kernels, strict):
    """XLA computes one row alone in another way, and needs a second beside it."""
    strict.complete(PROMPT, max_tokens=2)
    assert strict.engine.limits.strict
    assert strict.engine.limits.min_rows == (1 if kernels else 2)


def test_in_another_process(kernels, alone):
    """Everything is loaded and compiled again there."""
    code = f"""
import toolkit
from tests.engine.test_determinism import ASKED, PROMPT, bits
with toolkit.load(strict=True, kernels={kernels}) as lm:
    found = bits(lm.complete(PROMPT, **ASKED).record.choices[0])
print([values[:-1] for values in found])
"""
    root = Path(__file__).parents[2]
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, cwd=root)
    assert done.stdout.strip() == repr([values[:-1] for values in alone]), done.stderr
