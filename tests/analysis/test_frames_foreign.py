"""Frames of other servers' answers, from literals in their shapes."""

from __future__ import annotations

import copy
import math

import pandas as pd
import pytest

from tests.analysis.answers import CHAT, LLAMA_CPP, LLAMA_CPP_PYTHON, OPENAI, SCORED, VLLM, ours
from toolkit import frames
from toolkit.completion.response import legacy
from toolkit.errors import InvalidRequest


def column(frame: pd.DataFrame, name: str) -> list:
    """Values with None for what is missing."""
    return [None if pd.isna(value) else value for value in frame[name]]


def test_openai_legacy():
    frame = frames.tokens(OPENAI)
    assert column(frame, "token_bytes") == [b" a", b"\xc3", b"\xa9", b"!"]
    assert column(frame, "logprob") == [-0.5, -2.0, -0.25, -math.inf]
    assert column(frame, "rank") == [1, None, 1, None]  # beyond the two listed
    assert column(frame, "top_logprob") == pytest.approx([-0.5, -0.5, -0.25, -0.1])
    assert column(frame, "text_start") == [5, 7, 7, 8]
    assert column(frame, "segment") == ["completion"] * 4
    assert column(frame, "token_id") == [None] * 4
    assert frames.requests(OPENAI)["logprob_sum"].iloc[0] == -math.inf


def test_llama_cpp_python_with_echo():
    frame = frames.tokens(LLAMA_CPP_PYTHON)
    assert column(frame, "segment") == ["prompt", "prompt", "completion"]
    assert column(frame, "logprob") == [None, -3.0, -1.0]
    assert column(frame, "rank") == [None, None, 1]
    assert column(frame, "text_end") == [3, 7, 11]


def test_llama_cpp_python_with_echo_and_no_bos():
    """Three tokens of prompt and two drawn, whose last has no entry."""
    answer = copy.deepcopy(LLAMA_CPP_PYTHON)
    answer["choices"][0]["text"] = "The cat sat here on"
    arrays = answer["choices"][0]["logprobs"]
    arrays["tokens"].append(" here")
    arrays["token_logprobs"].append(-1.5)
    arrays["top_logprobs"].append({" here": -1.5})
    arrays["text_offset"].append(11)
    answer["usage"] = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
    frame = frames.tokens(answer)
    assert column(frame, "segment") == ["prompt"] * 3 + ["completion"]

    answer["choices"][0]["text"] = "The cat sat here"  # nothing lacks: a BOS has no entry
    frame = frames.tokens(answer)
    assert column(frame, "segment") == ["prompt"] * 2 + ["completion"] * 2


def test_where_the_prompt_ends_is_unknown_unless_somebody_says_so():
    answer = copy.deepcopy(LLAMA_CPP_PYTHON)
    del answer["usage"]
    assert column(frames.tokens(answer), "segment") == [None] * 3
    assert column(frames.tokens(answer), "step") == [None] * 3
    said = frames.tokens(answer, prompt_tokens=2)
    assert column(said, "segment") == ["prompt", "prompt", "completion"]


def test_vllm():
    frame = frames.tokens(VLLM)
    assert column(frame, "segment") == ["prompt", "prompt", "completion"]
    assert column(frame, "token_id") == [1, 31, 44]
    assert column(frame, "token") == [None, " go", " up"]
    assert column(frame, "rank") == [None, 12, 1]
    assert column(frame, "top_token_id") == [None, 7, 44]
    listed = frames.candidates(VLLM)
    assert column(listed[listed["position"] == 2], "token_id") == [44, None]
    row = frames.requests(VLLM).iloc[0]
    assert (row["stop_reason"], row["prompt_tokens"], row["completion_tokens"]) == ("99", 2, 1)


def test_chat():
    frame = frames.tokens(CHAT)
    assert column(frame, "token_bytes") == [b"\xf0\x9f", b"\x98\x80", b"ok"]
    assert column(frame, "text_start") == [0, 0, 1]
    assert column(frame, "text_end") == [1, 1, 3]
    assert column(frame, "rank") == [None, None, 2]


def test_llama_cpp_native():
    frame = frames.tokens(LLAMA_CPP)
    row = frame.iloc[0]
    assert (row["token_id"], row["rank"], row["top_token_id"]) == (6151, 2, 9)
    assert frames.requests(LLAMA_CPP)["tokens_per_second"].iloc[0] == 20.0


def test_llama_cpp_after_the_sampler():
    answer = copy.deepcopy(LLAMA_CPP)
    answer["completion_probabilities"] = [
        {"id": 1, "token": "hi", "bytes": [104, 105], "prob": 0.25, "top_probs": []}
    ]
    frame = frames.tokens(answer)
    assert column(frame, "logprob") == [None]
    assert column(frame, "logprob_sampled") == pytest.approx([math.log(0.25)])


def test_prompt_entries_in_front_of_the_specifications_content():
    frame = frames.tokens(SCORED)
    assert column(frame, "segment") == ["prompt", "completion", "completion"]
    assert column(frame, "step") == [None, 0, 1]
    assert column(frame, "text_start") == [None, 0, 1]


def test_our_record_and_our_two_shapes_agree():
    answer = ours()
    record, strict = frames.tokens(answer), frames.tokens(dict(answer), prompt_tokens=1)
    arrays = frames.tokens(legacy(answer.record), prompt_tokens=2)
    names = ["token", "logprob", "top_logprob", "text_start"]
    # The strict shape has no room for an unconditioned first token, nor for EOS.
    for name in names:
        assert column(strict, name) == column(record, name)[1:3], name
    assert column(arrays, "logprob") == column(record, "logprob")
    assert column(arrays, "token") == column(record, "token")
    assert column(arrays, "segment") == column(record, "segment")


def test_logprobs_of_a_server_that_reports_what_it_drew_from():
    frame = frames.tokens(OPENAI, distribution="sampled")
    assert column(frame, "logprob") == [None] * 4
    assert column(frame, "logprob_sampled") == [-0.5, -2.0, -0.25, -math.inf]
    with pytest.raises(InvalidRequest, match="`distribution`"):
        frames.tokens(OPENAI, distribution="cooked")


def test_ids_in_place_of_names():
    answer = copy.deepcopy(OPENAI)
    arrays = answer["choices"][0]["logprobs"]
    arrays.update(tokens=["token_id:7"], token_logprobs=[-1.0], text_offset=[0])
    arrays["top_logprobs"] = [{"token_id:7": -1.0, "token_id:8": -2.0}]
    frame = frames.tokens(answer)
    assert column(frame, "token_id") == [7]
    assert column(frame, "token") == [None]
    assert column(frame, "rank") == [1]
