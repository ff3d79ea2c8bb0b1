"""Short prompts are computed together, and nobody can tell from the answers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

import toolkit
from toolkit.completion.complete import LM
from toolkit.engine.job import Job, Prompted
from toolkit.errors import EngineFault
from toolkit.sampling.params import SamplingParams

PROMPTS = [f"{name} is the capital of" for name in ("Rome", "Oslo", "Lima", "Bern", "Riga")]
TEXTS = [f"{name} is the capital of a country that I visited." for name in ("Rome", "Oslo")] * 9


@pytest.fixture(scope="module")
def strict() -> Iterator[LM]:
    """The real model in strict mode."""
    with toolkit.load(strict=True) as lm:
        yield lm


def test_a_prompt_in_a_group_has_the_bits_that_it_has_alone(strict: LM):
    asked: dict[str, Any] = {"max_tokens": 3, "seed": 3, "logprobs": 2, "details": True}
    alone = []
    for prompt in PROMPTS:
        strict.engine.forget_prompts()
        alone.append(strict.complete(prompt, **asked).record.choices[0].tokens)
    strict.engine.forget_prompts()
    before = len(strict.stats().compiles)
    answer = strict.complete(PROMPTS, **asked)
    assert [choice.tokens for choice in answer.record.choices] == alone
    programs = [name for name, _ in strict.stats().compiles[before:]]
    assert any(name.startswith("prefill[rows=4,") for name in programs)


def test_packed_prompts_have_the_bits_that_they_have_alone(strict: LM):
    texts = [f"{'No. ' * i}{prompt} which country? " * 5 for i, prompt in enumerate(PROMPTS)] * 2
    texts = [f"{i} {text}" for i, text in enumerate(texts)]
    asked: dict[str, Any] = {"max_tokens": 2, "seed": 3, "prompt_logprobs": 1, "details": True}
    alone = []
    for text in texts:
        strict.engine.forget_prompts()
        alone.append(strict.complete(text, **asked).record.choices[0])
    strict.engine.forget_prompts()
    before = len(strict.stats().compiles)
    answer = strict.complete(texts, **asked)
    assert [c.tokens for c in answer.record.choices] == [c.tokens for c in alone]
    assert [c.prompt_tokens for c in answer.record.choices] == [c.prompt_tokens for c in alone]
    programs = [name for name, _ in strict.stats().compiles[before:]]
    assert any("packed=512" in name for name in programs)


@pytest.mark.parametrize("top", [0, 3])
def test_scores_continue_from_a_stored_beginning_with_the_same_bits(strict: LM, top: int):
    start = "Rome is the capital of Italy, and a city that I should like to see once more before"
    texts = [start + end for end in (" winter.", " I am too old to travel so far.", "")]
    alone = []
    for text in texts:
        strict.engine.forget_prompts()
        alone += strict.score([text], top=top)
    strict.engine.forget_prompts()
    reused = strict.stats().reused
    assert strict.score(texts, top=top) == alone
    assert strict.stats().reused > reused + 2 * 15


def test_scores_of_a_group_are_those_of_each_text_alone(strict: LM):
    texts = [f"{text} {i}" for i, text in enumerate(TEXTS)]
    whole = strict.score(texts, top=0)
    for number in (0, 7, 17):
        strict.engine.forget_prompts()
        assert strict.score([texts[number]], top=0) == [whole[number]]


def test_alternatives_do_not_change_what_is_scored(strict: LM):
    (plain,), (rich,) = strict.score(TEXTS[:1], top=0), strict.score(TEXTS[:1], top=3)
    assert [t.logprob for t in plain.tokens] == [t.logprob for t in rich.tokens]
    assert [t.rank for t in plain.tokens] == [t.rank for t in rich.tokens]
    assert [len(t.top) for t in rich.tokens[1:]] == [3] * (len(rich.tokens) - 1)
    assert not any(t.top for t in plain.tokens)


def test_choices_of_a_short_prompt_need_it_once(strict: LM):
    strict.engine.forget_prompts()
    before = strict.stats().prefilled
    strict.complete(PROMPTS[0], n=5, max_tokens=1, seed=3)
    assert strict.stats().prefilled == before + len(strict.tokenizer.encode(PROMPTS[0]))


def test_equal_prompts_with_other_numbers_of_alternatives(strict: LM):
    """Fifty are more than every program reports, and the second job's result has fewer."""
    strict.engine.forget_prompts()
    prompt, neutral = tuple(strict.tokenizer.encode(PROMPTS[0])), SamplingParams()
    jobs = [Job(prompt=prompt, params=neutral, max_tokens=0, score=score) for score in (50, 5)]
    tickets, events = strict.engine.submit(jobs)
    told = [events.get(timeout=60) for _ in range(4)]
    assert [event.ticket for event in told] == [tickets[0]] * 2 + [tickets[1]] * 2
    rows = [event.scores.top_ids.shape for event in told if isinstance(event, Prompted)]
    assert rows == [(len(prompt) - 1, 50)] * 2


def test_a_fault_in_a_group_ends_the_guilty_prompt_only(strict: LM, monkeypatch):
    prefill = strict.engine.steps.prefill
    poison = strict.tokenizer.encode(PROMPTS[2])

    def broken(leaves: Any, cache: Any, tokens: Any, *rest: Any) -> Any:
        if " ".join(map(str, poison)) in " ".join(map(str, tokens.reshape(-1))):
            raise ValueError("poison")
        return prefill(leaves, cache, tokens, *rest)

    strict.engine.forget_prompts()
    monkeypatch.setitem(vars(strict.engine.steps), "prefill", broken)
    runs = [strict.stream(prompt, max_tokens=2) for prompt in PROMPTS]
    for number, run in enumerate(runs):
        if number == 2:
            with pytest.raises(EngineFault, match="poison"):
                list(run)
        else:
            assert sum(len(chunk["choices"]) for chunk in run) >= 2


def test_without_a_store_no_prompt_of_a_group_is_computed_twice():
    texts = [f"{i} times: {TEXTS[0]}" for i in range(8)]
    with toolkit.load(prefix_bytes=0) as lm:
        counts = [len(text.tokens) for text in lm.score(texts, top=0)]
        assert lm.stats().prefilled == sum(counts)
