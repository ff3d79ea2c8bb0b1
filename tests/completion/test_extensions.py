"""What only the legacy route and Python take. Cases are those of the contract, section 6."""

from __future__ import annotations

import fractions

import numpy as np
import pytest

from tests.completion.asking import L, P, S, ask, refused
from toolkit.completion.request import StreamOptions


@pytest.mark.parametrize(
    ("name", "inside", "outside"),
    [
        ("top_k", [0, 5, 2**31 - 1], [-2, 2**31]),
        ("min_p", [0, 1], [-0.1, 1.1]),
        ("typical_p", [0, 1], [-0.1, 1.1]),
        ("repetition_penalty", [0.01, 100], [0, -1, 101]),
        ("min_tokens", [0, 16], [-1, 17]),
    ],
)
def test_ranges_of_the_extensions(name: str, inside: list[float], outside: list[float]):
    for dialect in (L, P):
        for value in inside:
            assert getattr(ask(dialect, **{name: value}), name) == value
        for value in outside:
            refused(name, dialect, **{name: value})


def test_extensions():
    assert ask(L, top_k=-1).top_k == 0
    assert ask(L, stop_token_ids=[7, 7, 8.0]).stop_token_ids == (7, 8)
    assert ask(P, stop_token_ids=np.array([7, 8])).stop_token_ids == (7, 8)
    refused("stop_token_ids", L, stop_token_ids=["7"])
    refused("stop_token_ids", L, stop_token_ids=7)
    refused("stop_token_ids", L, stop_token_ids=list(range(65)))
    assert ask(L, logprobs_mode="processed").logprobs_mode == "processed"
    refused("logprobs_mode", L, logprobs_mode="processed_logits")
    refused("ignore_eos", L, ignore_eos=1)
    assert not ask(L, add_special_tokens=False).add_special_tokens


def test_min_tokens_fit_into_max_tokens():
    assert ask(L, min_tokens=17, max_tokens=17).min_tokens == 17
    refused("min_tokens", L, min_tokens=3, max_tokens=2)


def test_integer_keys_of_logit_bias_are_for_python():
    assert ask(P, logit_bias={42: 1, np.int64(43): np.float32(2)}).logit_bias == {42: 1, 43: 2}
    refused("logit_bias", L, logit_bias={42: 1})
    refused("logit_bias", P, logit_bias={True: 1})


def test_continuous_usage_is_for_the_legacy_route():
    options = {"include_usage": True, "continuous_usage_stats": True}
    assert ask(L, stream=True, stream_options=options).stream_options == StreamOptions(
        include_usage=True, continuous_usage_stats=True
    )
    assert not ask(S, stream=True, stream_options=options).stream_options.continuous_usage_stats
    options = {"include_usage": None}
    assert not ask(L, stream=True, stream_options=options).stream_options.include_usage
    refused("stream_options", S, stream=True, stream_options=options)


def test_stop_ids_cannot_cut_a_choice():
    refused("stop_token_ids", L, guided_choice=["yes"], stop_token_ids=[5])


def test_case_107_structured_outputs():
    choices = {"choice": ["a", "b", "a"]}
    assert ask(L, structured_outputs=choices) == ask(L, guided_choice=["a", "b"])
    assert ask(L, structured_outputs={**choices, "regex": None}).guided_choice == ("a", "b")
    refused("structured_outputs", L, structured_outputs=choices, guided_choice=["a"])
    for bad in ({}, {"regex": "a"}, {**choices, "json": {}}, {"choice": []}, {"choice": "a"}, "a"):
        refused("structured_outputs", L, structured_outputs=bad)
    refused("structured_outputs", S, structured_outputs=choices)


def test_case_108_what_skyrl_sends():
    request = ask(L, logprobs=True, top_k=-1, return_token_ids=True)
    assert (request.logprobs, request.top_k, request.return_token_ids) == (1, 0, True)


def test_python_takes_numpy_scalars():
    request = ask(P, n=np.int64(2), temperature=np.float32(0.5), echo=np.bool_(True), logprobs=True)
    assert (request.n, request.temperature, request.echo, request.logprobs) == (2, 0.5, True, 1)
    assert (type(request.n), type(request.temperature)) == (int, float)
    assert ask(P, temperature=fractions.Fraction(1, 2)).temperature == 0.5
