"""Short prompts are computed together, and nobody can tell from the answers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

import toolkit
from toolkit.completion.complete import LM
from toolkit.engine.job import Job
from toolkit.engine.prefill import together
from toolkit.engine.prefixes import Prefixes
from toolkit.errors import EngineFault
from toolkit.sampling.params import SamplingParams

PROMPTS = [f"{name} is the capital of" for name in ("Rome", "Oslo", "Lima", "Bern", "Riga")]
TEXTS = [f"{name} is the capital of a country that I visited." for name in ("Rome", "Oslo")] * 9


@pytest.fixture(scope="module")
def strict() -> Iterator[LM]:
    """The real model in strict mode."""
    with toolkit.load(strict=True) as lm:
        yield lm


def job(ids: tuple[int, ...], **fields: Any) -> Job:
    return Job(prompt=ids, params=SamplingParams(), max_tokens=1, **fields)


def prompts(count: int, length: int) -> list[Job]:
    """Jobs whose prompts share nothing."""
    return [job((i, *range(100, 99 + length))) for i in range(count)]


@pytest.mark.parametrize(
    ("count", "length", "size"),
    [(1, 5, 1), (3, 5, 1), (4, 5, 4), (15, 5, 4), (40, 16, 16), (40, 32, 16), (40, 33, 4)],
)
def test_how_many_are_taken_together(count, length, size):
    first, *others = prompts(count, length)
    assert len(together(first, others, Prefixes(2**20))) == size


def test_long_prompts_and_those_of_another_length_or_wish_are_computed_apart():
    first, *others = prompts(8, 129)
    assert together(first, others, Prefixes(0)) == (first,)
    first, *others = prompts(3, 10)
    unlike = [*prompts(4, 20), *(job((i,), score=0) for i in range(4)), *[first] * 4]
    assert together(first, [*unlike, *others], Prefixes(0)) == (first,)
    scored = [job((i,), score=i % 2) for i in range(8)]
    assert [j.score for j in together(scored[0], scored[1:], Prefixes(0))] == [0] * 4


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


def test_a_fault_in_a_group_ends_the_guilty_prompt_only(strict: LM, monkeypatch):
    prefill = strict.engine.steps.prefill
    poison = strict.tokenizer.encode(PROMPTS[2])

    def broken(leaves: Any, cache: Any, tokens: Any, *rest: Any) -> Any:
        if any(row[: len(poison)].tolist() == poison for row in tokens):
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
