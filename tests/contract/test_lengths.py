"""Section 6, cases 29 to 35: how many tokens there may be."""

from __future__ import annotations

from typing import Any

import pytest

from tests.contract.surfaces import (
    L,
    S,
    legacy_answer,
    record_of,
    request_of,
    strict_answer,
    strict_events,
)
from tests.contract.toys import CONTEXT as C
from tests.contract.toys import EOS
from toolkit.completion.complete import LM
from toolkit.completion.run import Run
from toolkit.errors import InvalidRequest

NO_EOS = {"logit_bias": {str(EOS): -100}}


def test_case_29_default_is_at_most_16_tokens(toy: LM):
    answer = toy.complete("q", seed=1, **NO_EOS)
    assert answer["choices"][0]["finish_reason"] == "length"
    assert answer.record.usage.completion_tokens == 16
    assert record_of(toy, "q", S, seed=1, **NO_EOS).usage.completion_tokens == 16
    assert toy.complete("J")["choices"][0]["finish_reason"] == "stop"


def test_case_30_max_tokens_0_generates_nothing(toy: LM):
    (choice,) = strict_answer(toy, "A", max_tokens=0)["choices"]
    assert choice == {"index": 0, "text": "", "finish_reason": "length"}
    answer = legacy_answer(toy, "A", max_tokens=0)
    assert answer["usage"] == {"prompt_tokens": 1, "completion_tokens": 0, "total_tokens": 1}
    assert [e["choices"] for e in strict_events(toy, "A", max_tokens=0)] == [[choice]]


def test_case_31_scoring_a_prompt_on_the_legacy_route(toy: LM):
    answer = legacy_answer(toy, "one two", max_tokens=0, echo=True, logprobs=1)
    (choice,) = answer["choices"]
    assert choice["text"] == "one two" and choice["finish_reason"] == "length"
    assert choice["logprobs"]["tokens"] == list("one two")
    assert choice["logprobs"]["text_offset"] == list(range(7))
    assert answer["usage"]["completion_tokens"] == 0


def test_case_32_the_context_can_be_filled(toy: LM):
    for prompt in ("x" * (C - 1), [120] * (C - 1)):
        answer = legacy_answer(toy, prompt, max_tokens=1)
        assert answer["usage"]["total_tokens"] == C


@pytest.mark.parametrize("stream", [False, True])
def test_case_33_a_full_context_takes_no_token_more(toy: LM, stream: bool):
    for dialect in (S, L):
        with pytest.raises(InvalidRequest) as caught:
            Run(toy, request_of(toy, "x" * C, dialect, max_tokens=1, stream=stream))
        assert f"has {C} tokens" in caught.value.message
        assert "`max_tokens` 1 " in caught.value.message
        assert f"the context holds {C}" in caught.value.message
    full = strict_answer(toy, "x" * C, max_tokens=0, echo=True)["choices"][0]
    assert full["text"] == "x" * C and full["finish_reason"] == "length"


def test_case_34_the_default_fits_into_the_context(toy: LM):
    answer = toy.complete("x" * (C - 3), seed=1, **NO_EOS)
    assert answer.record.usage.completion_tokens == 3
    assert answer["choices"][0]["finish_reason"] == "length"
    with pytest.raises(InvalidRequest, match="nothing can be generated"):
        toy.complete("x" * C)


def test_case_34_each_prompt_has_its_own_default(toy: LM):
    record = toy.complete(["x" * (C - 3), "q"], seed=1, **NO_EOS).record
    assert [len(choice.tokens) for choice in record.choices] == [3, 16]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("fields", [{}, {"max_tokens": 0}, {"max_tokens": 1}])
def test_case_35_prompts_over_the_context(toy: LM, stream: bool, fields: dict[str, Any]):
    for dialect in (S, L):
        with pytest.raises(InvalidRequest, match="Shorten") as caught:
            Run(toy, request_of(toy, ["x", "x" * (C + 1)], dialect, stream=stream, **fields))
        assert caught.value.status == 400 and "prompt 1" in caught.value.message
    with pytest.raises(InvalidRequest):
        toy.stream("x" * (C + 1))  # not only when the first chunk is asked for
