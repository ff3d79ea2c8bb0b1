"""The forms of `prompt` on each surface. Cases are those of the contract, section 6."""

from __future__ import annotations

import array
from typing import Any

import numpy as np
import pytest

from tests.completion.asking import EVERYWHERE, L, P, S, ask, refused
from toolkit.completion.request import Dialect, parse
from toolkit.errors import InvalidRequest


@EVERYWHERE
def test_prompt_is_required(dialect: Dialect):
    with pytest.raises(InvalidRequest, match="`prompt` is required"):
        parse({"model": "toy"}, dialect=dialect)


@EVERYWHERE
@pytest.mark.parametrize("empty", [[], [[]], [[65], []]])
def test_case_03_and_04_empty_lists_are_no_prompts(dialect: Dialect, empty: Any):
    refused("prompt", dialect, prompt=empty)


def test_case_05_an_empty_string_is_a_prompt():
    assert ask(prompt=[""]).prompt == ("",)
    assert ask(prompt="").prompt == ("",)
    assert ask(L, prompt=None).prompt == ("",)


@EVERYWHERE
@pytest.mark.parametrize("prompt", [["a", 1], [1, "a"], [True], [1.5], {}, 5, [None], [[1], "a"]])
def test_case_06_mixed_and_foreign_prompts(dialect: Dialect, prompt: Any):
    refused("prompt", dialect, prompt=prompt)
    refused("prompt", S, prompt=None)


def test_case_07_the_four_forms_and_integral_floats():
    assert ask(prompt=[65.0]).prompt == ((65,),)
    assert ask(prompt="ab").prompt == ("ab",)
    assert ask(prompt=["a", "b"]).prompt == ("a", "b")
    assert ask(prompt=[65, 66]).prompt == ((65, 66),)
    assert ask(prompt=[[65], [66, 67.0]]).prompt == ((65,), (66, 67))


def test_python_takes_arrays_as_token_ids():
    for ids in (np.array([65, 66]), array.array("i", [65, 66]), (np.int64(65), 66)):
        assert ask(P, prompt=ids).prompt == ((65, 66),)
    assert ask(P, prompt=np.array([[65], [66]])).prompt == ((65,), (66,))
    assert ask(P, prompt=[np.array([65]), [np.int32(66)]]).prompt == ((65,), (66,))
    assert all(type(token) is int for token in ask(P, prompt=[[np.int32(66)]]).prompt[0])
    refused("prompt", P, prompt=np.array([0.5]))
    refused("prompt", P, prompt=np.array(65))
    refused("prompt", S, prompt=np.array([65]))


def test_python_takes_series():
    pandas = pytest.importorskip("pandas")
    assert ask(P, prompt=pandas.Series([65, 66])).prompt == ((65, 66),)
    assert ask(P, prompt=pandas.Series(["a", "b"])).prompt == ("a", "b")


@EVERYWHERE
def test_case_110_sequences_are_capped(dialect: Dialect):
    assert len(ask(dialect, prompt=["x"] * 256).prompt) == 256
    refused("prompt", dialect, prompt=["x"] * 257)
    assert "258" in refused("n", dialect, prompt=["x"] * 129, n=2)
    refused("best_of", dialect, prompt=["x"] * 100, n=2, best_of=3)
