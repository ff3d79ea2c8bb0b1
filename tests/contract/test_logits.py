"""`LM.logits`: what every sampling parameter works on."""

from __future__ import annotations

import numpy as np
import pytest

from tests.contract import toys
from toolkit.errors import InvalidRequest


def test_logits_are_the_models_own(toy):
    last = toys.VOCABULARY.id_of(b"W")
    row = toy.logits("ab W")
    assert (row.dtype, row.shape) == (np.float32, (toys.SIZE,))
    np.testing.assert_array_equal(row, toys.table()[last])
    np.testing.assert_array_equal(row, toy.logits([last]))


def test_logprobs_follow_from_them(toy):
    row = toy.logits("P").astype(np.float64)
    answer = toy.complete("P", max_tokens=1, temperature=0, logprobs=1)
    (entry,) = answer["choices"][0]["logprobs"]["content"]
    assert entry["logprob"] == pytest.approx(row.max() - np.log(np.exp(row).sum()), abs=1e-6)


def test_they_are_the_callers_own_and_cost_nothing_twice(toy):
    toy.logits("ab S")[:] = 0
    computed = toy.stats().prefilled
    np.testing.assert_array_equal(toy.logits("ab S"), toys.table()[toys.VOCABULARY.id_of(b"S")])
    assert toy.stats().prefilled == computed


@pytest.mark.parametrize(
    ("prompt", "said"),
    [
        (["a", "b"], "one prompt"),
        ([], "prompt"),
        ([toys.SIZE], "ids go from 0"),
        ("x" * 99, "context"),
    ],
)
def test_what_is_no_prompt_is_refused(toy, prompt, said):
    with pytest.raises(InvalidRequest, match=said):
        toy.logits(prompt)
