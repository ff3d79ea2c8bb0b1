"""Section 6, cases 1 to 28, 105, 107, 108 and 110: values at the ends of their ranges run.

What is refused, and how, stands in tests/completion/test_request.py and its neighbours.
"""

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
from tests.contract.toys import EOS, SIZE
from toolkit.completion.complete import LM
from toolkit.errors import InvalidRequest, ModelNotFound


def text(lm: LM, prompt: Any = "q", **fields: Any) -> str:
    return strict_answer(lm, prompt, **{"seed": 1, **fields})["choices"][0]["text"]


def test_case_02_extensions_run_on_the_legacy_route(toy: LM):
    answer = legacy_answer(toy, "q", top_k=1, seed=1)
    assert answer["choices"][0]["text"] == text(toy, temperature=0)
    with pytest.raises(InvalidRequest, match="`top_k` is not a parameter"):
        strict_answer(toy, "q", top_k=1)


def test_case_05_an_empty_string_starts_a_document(toy: LM, beginning: LM):
    for lm, start in ((toy, EOS), (beginning, beginning.tokenizer.bos_id)):
        record = record_of(lm, [""], S, seed=1)
        assert record.prompts == ((start,),) and len(record.choices) == 1
        assert text(lm, "") == text(lm, [start])
        assert record_of(lm, None, L, seed=1).prompts == ((start,),)


def test_case_07_integral_floats_are_ids(toy: LM):
    assert text(toy, [65.0]) == text(toy, [65]) == text(toy, "A") == "one two three"


def test_case_08_and_09_ids_are_below_the_vocabulary(toy: LM):
    assert text(toy, [SIZE - 1]) == ""  # the last id is followed by EOS
    for bad in (-1, SIZE):
        with pytest.raises(InvalidRequest, match="prompt 1"):
            strict_answer(toy, [[65], [bad]])
    with pytest.raises(InvalidRequest, match="prompt 0"):
        toy.stream([SIZE])


def test_case_10_integral_floats_are_counts(toy: LM):
    assert record_of(toy, "A", S, max_tokens=2.0).usage.completion_tokens == 2


def test_case_11_logprobs_on_the_legacy_route(toy: LM):
    one = legacy_answer(toy, "A", logprobs=1)["choices"][0]["logprobs"]
    assert len(one["top_logprobs"][0]) == 1
    assert legacy_answer(toy, "A", logprobs=True)["choices"][0]["logprobs"] == one
    assert legacy_answer(toy, "A", logprobs=False)["choices"][0]["logprobs"] is None


def test_case_12_null_is_as_absent_on_the_legacy_route(toy: LM):
    fields = dict.fromkeys(("max_tokens", "stop", "logprobs", "n", "best_of", "stream", "suffix"))
    answer = legacy_answer(toy, "A", guided_choice=None, logit_bias=None, **fields)
    assert answer["choices"] == legacy_answer(toy, "A")["choices"]


def test_case_16_and_17_unknown_models_are_not_found(toy: LM):
    for model in ("string", "nobody"):
        for stream in (False, True):
            with pytest.raises(ModelNotFound):
                request_of(toy, "x", S, model=model, stream=stream)
        with pytest.raises(ModelNotFound):
            toy.stream("x", model=model)
    assert toy.complete("A", model=toy.name)["model"] == toy.name


@pytest.mark.parametrize(
    "fields",
    [
        {"temperature": 0},
        {"temperature": 2},
        {"top_p": 1},
        {"frequency_penalty": -2},
        {"frequency_penalty": 2},
        {"presence_penalty": -2},
        {"presence_penalty": 2},
    ],
)
def test_case_18_to_20_ends_of_ranges_run_and_repeat(toy: LM, fields: dict[str, Any]):
    assert text(toy, **fields) == text(toy, **fields)


def test_case_18_temperature_0_is_greedy(toy: LM):
    (entry, *_) = strict_answer(toy, "q", temperature=0, logprobs=True)["choices"][0]["logprobs"][
        "content"
    ]
    assert entry["bytes"] == entry["top_logprobs"][0]["bytes"]


def test_case_19_top_p_0_is_greedy(toy: LM):
    assert text(toy, top_p=0, max_tokens=30) == text(toy, temperature=0, max_tokens=30)


def test_case_22_every_seed_is_ordinary(toy: LM):
    seeds = (-(2**63), -1, 0, 1, 1 + 2**32, 2**63 - 1)
    texts = [text(toy, seed=seed, max_tokens=30) for seed in seeds]
    assert texts == [text(toy, seed=seed, max_tokens=30) for seed in seeds]
    assert len(set(texts)) == len(seeds)


def test_case_23_an_empty_bias_is_as_absent(toy: LM):
    assert text(toy, logit_bias={}) == text(toy)
    with pytest.raises(InvalidRequest, match="`logit_bias`"):
        text(toy, logit_bias={str(SIZE): 1})


def test_case_24_stops_that_never_come_change_nothing(toy: LM):
    for stop in ([], "1", ["1", "2", "3", "4", "5"], [str(number) for number in range(64)]):
        assert text(toy, "A", stop=stop) == "one two three"


def test_case_26_include_usage_only_streams(toy: LM):
    with pytest.raises(InvalidRequest, match="`stream_options`"):
        strict_answer(toy, "q", stream_options={"include_usage": True})
    assert "usage" in strict_events(toy, "A", stream_options={"include_usage": True})[-1]


def test_case_28_as_many_candidates_as_choices_can_stream(toy: LM):
    events = strict_events(toy, "A", n=2, best_of=2)
    assert {event["choices"][0]["index"] for event in events} == {0, 1}


@pytest.mark.parametrize("user", ["", "a", "\N{GRINNING FACE}" * 100])
def test_case_105_user_changes_nothing(toy: LM, user: str):
    assert text(toy, user=user, n=2) == text(toy, n=2)


def test_case_107_both_spellings_of_a_guide(toy: LM):
    fields = {"structured_outputs": {"choice": ["joy"]}}
    assert legacy_answer(toy, "q", **fields)["choices"][0]["text"] == "joy"
    with pytest.raises(InvalidRequest, match="`structured_outputs`"):
        legacy_answer(toy, "q", guided_choice=["joy"], **fields)


def test_case_108_what_skyrl_sends(toy: LM):
    fields = {"logprobs": True, "top_k": -1, "return_token_ids": True, "max_tokens": 8}
    (choice,) = legacy_answer(toy, [65], **fields)["choices"]
    assert choice["prompt_token_ids"] == [65]
    assert len(choice["token_ids"]) == len(choice["logprobs"]["token_logprobs"]) == 5
    assert choice["token_ids"][-1] == EOS


def test_case_110_prompts_above_the_cap(toy: LM):
    with pytest.raises(InvalidRequest, match="limit of 256"):
        toy.complete(["x"] * 257, max_tokens=1)
    record = toy.complete(["x"] * 256, max_tokens=1, seed=1).record
    assert len(record.choices) == 256 and len({c.text for c in record.choices}) == 1
