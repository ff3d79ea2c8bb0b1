"""`check_tokens`: what needs vocabulary and context. Cases as in the contract's section 6."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from toolkit.completion.request import Dialect, Limits, check_tokens, parse, sampling_params
from toolkit.errors import InvalidRequest
from toolkit.sampling.params import SamplingParams

S, L, P = Dialect.STRICT, Dialect.LEGACY, Dialect.PYTHON
VOCAB, CONTEXT = 256, 64


def check(
    *prompts: Sequence[int],
    dialect: Dialect = P,
    vocab_size: int = VOCAB,
    has_eos: bool = True,
    fim: bool = False,
    limits: Limits | None = None,
    **fields: Any,
) -> tuple[int, ...]:
    """`check_tokens` on a toy model with 256 ids and a context of 64."""
    limits = limits or Limits()
    fields = {"model": "toy", "prompt": [list(ids) or "" for ids in prompts], **fields}
    if not all(prompts):
        fields["prompt"] = [""] * len(prompts)
    request = parse(fields, dialect=dialect, limits=limits)
    return check_tokens(
        request,
        prompts,
        vocab_size=vocab_size,
        context=CONTEXT,
        has_eos=has_eos,
        fim=fim,
        limits=limits,
    )


def refused(param: str, *prompts: Sequence[int], **options: Any) -> str:
    with pytest.raises(InvalidRequest) as caught:
        check(*prompts, **options)
    assert caught.value.param == param
    assert f"`{param}`" in caught.value.message
    return caught.value.message


def test_case_08_ids_are_in_the_vocabulary():
    refused("prompt", [-1])
    assert "255" in refused("prompt", [65, 256])
    refused("prompt", [10**30])
    assert check([0, 255]) == (16,)


def test_case_09_the_failing_prompt_is_named():
    assert "prompt 1, position 0" in refused("prompt", [65], [256])


def test_prompts_may_be_arrays():
    request = parse({"prompt": [65, 66]}, dialect=P)
    options = {"vocab_size": VOCAB, "context": CONTEXT, "has_eos": True, "fim": False}
    assert check_tokens(request, [np.array([65, 66]).tolist()], **options) == (16,)


def test_a_prompt_without_any_token():
    assert "prompt 1" in refused("prompt", [65], [])


def test_case_23_ids_of_logit_bias_are_in_the_vocabulary():
    assert "256" in refused("logit_bias", [65], logit_bias={"256": 1})
    assert check([65], logit_bias={"255": 1}) == (16,)


def test_stop_ids_are_in_the_vocabulary():
    refused("stop_token_ids", [65], stop_token_ids=[256])
    refused("stop_token_ids", [65], stop_token_ids=[-1])
    assert check([65], stop_token_ids=[255]) == (16,)


def test_case_27_all_logprobs_need_a_cap_of_the_vocabulary():
    for name in ("logprobs", "prompt_logprobs"):
        refused(name, [65], **{name: -1})
        assert check([65], limits=Limits(max_logprobs=VOCAB), **{name: -1}) == (16,)


def test_case_29_the_default_is_sixteen_tokens():
    assert check([65], [65, 66]) == (16, 16)


def test_case_32_the_context_may_be_filled():
    assert check([65] * 63, max_tokens=1) == (1,)


def test_case_33_too_many_tokens_name_all_three_numbers():
    message = refused("max_tokens", [65], [65] * 64, max_tokens=1)
    assert "`max_tokens` 1" in message and "64 tokens (prompt 1)" in message
    assert "context holds 64" in message
    refused("max_tokens", [65], max_tokens=1e300)
    assert check([65] * 64, max_tokens=0, echo=True) == (0,)


def test_case_34_the_default_shrinks_to_the_context_but_not_to_nothing():
    assert check([65] * 61, [65]) == (3, 16)
    assert "`max_tokens` to 0" in refused("prompt", [65] * 64)


@pytest.mark.parametrize("options", [{}, {"max_tokens": 0}, {"stream": True}])
def test_case_35_prompts_over_the_context(options: dict[str, Any]):
    assert "65 tokens" in refused("prompt", [65] * 65, **options)


def test_min_tokens_fit_into_the_context():
    refused("min_tokens", [65] * 61, min_tokens=4)
    assert check([65] * 61, min_tokens=3) == (3,)


def test_case_90_choices_that_begin_others_need_eos():
    for choices in (["a", "ab"], ["ab", "b", "a"], ["é", "éa"]):
        refused("guided_choice", [65], guided_choice=choices, has_eos=False)
        refused("ignore_eos", [65], guided_choice=choices, ignore_eos=True)
        assert check([65], guided_choice=choices) == (16,)
    assert check([65], guided_choice=["ab", "b", "ac"], has_eos=False) == (16,)


def test_case_97_suffix_by_surface_and_model():
    refused("suffix", [65], dialect=L, suffix="!")
    for dialect in (S, P):
        assert check([65], dialect=dialect, suffix="!") == (16,)
    refused("suffix", [65], suffix="!", fim=True)
    assert check([65], prompt="A", dialect=L, suffix="!", fim=True) == (16,)


def test_sampling_params_carry_what_the_sampler_needs():
    request = parse(
        {
            "prompt": "x",
            "temperature": 0.5,
            "top_p": 0.9,
            "top_k": 5,
            "min_p": 0.1,
            "typical_p": 0.8,
            "repetition_penalty": 1.2,
            "frequency_penalty": 0.3,
            "presence_penalty": 0.4,
            "logit_bias": {"7": 2},
            "min_tokens": 3,
            "stop_token_ids": [9, 2],
        },
        dialect=L,
    )
    assert sampling_params(request, 1, -5, (2, 3)) == SamplingParams(
        temperature=0.5,
        top_p=0.9,
        top_k=5,
        min_p=0.1,
        typical_p=0.8,
        repetition_penalty=1.2,
        frequency_penalty=0.3,
        presence_penalty=0.4,
        logit_bias={7: 2.0},
        seed=-5,
        choice=1,
        min_tokens=3,
        stop_ids=(2, 3, 9),
    )


def test_ignored_eos_is_no_stop_id():
    request = parse({"prompt": "x", "ignore_eos": True, "stop_token_ids": [9]}, dialect=L)
    assert sampling_params(request, 0, 0, (2,)).stop_ids == (9,)
    assert sampling_params(parse({"prompt": "x"}, dialect=L), 0, 0, (2,)).stop_ids == (2,)
