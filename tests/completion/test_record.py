"""Records are frozen, and a `Completion` is the plain dict with its record."""

from __future__ import annotations

import copy
import dataclasses
import json
import pickle

import pytest

from toolkit.completion.record import ChoiceRecord, Completion, CompletionRecord, Timings, Usage
from toolkit.completion.request import CompletionRequest

SHAPE = {"id": "cmpl-1", "choices": [{"index": 0, "text": "a", "finish_reason": "length"}]}
RECORD = CompletionRecord(
    id="cmpl-1",
    created=7,
    model="toy",
    request=CompletionRequest(prompt=("x",), logit_bias={5: 1.0}),
    seed=3,
    prompts=((120,),),
    choices=(
        ChoiceRecord(
            index=0,
            prompt_index=0,
            candidate=0,
            text="a",
            completion="a",
            tokens=(),
            finish_reason="length",
            mean_logprob=None,
        ),
    ),
    usage=Usage(prompt_tokens=1, completion_tokens=2),
    timings=Timings(queue=0.0, prefill=0.0, first_token=None, total=0.0, tokens_per_second=None),
)


def test_completion_is_the_plain_dict():
    completion = Completion(SHAPE, RECORD)
    assert completion == SHAPE
    assert repr(completion) == repr(SHAPE)
    assert json.dumps(completion) == json.dumps(SHAPE)
    assert "record" not in completion
    assert completion.record is RECORD


def test_copies_and_pickles_keep_the_record():
    completion = Completion(SHAPE, RECORD)
    for other in (copy.copy(completion), completion.copy()):
        assert (type(other), other, other.record) == (Completion, SHAPE, RECORD)
        assert other.record is RECORD and other["choices"] is completion["choices"]
    for protocol in range(2, pickle.HIGHEST_PROTOCOL + 1):
        other = pickle.loads(pickle.dumps(completion, protocol))
        assert (type(other), other, other.record) == (Completion, SHAPE, RECORD)
    other = copy.deepcopy(completion)
    assert (type(other), other, other.record) == (Completion, SHAPE, RECORD)
    assert other["choices"] is not completion["choices"]


def test_records_are_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        RECORD.seed = 4  # type: ignore[misc]


def test_total_tokens():
    assert Usage(prompt_tokens=3, completion_tokens=4).total_tokens == 7
