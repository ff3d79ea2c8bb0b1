"""`LM.choose`: exact probabilities of choices, against brute force over tokenisations."""

from __future__ import annotations

import itertools
import math
from typing import Any

import pytest

from tests.contract.toys import CONTEXT, VOCABULARY, ids
from tests.oracle.guide import choice_probability, tokenisations
from tests.oracle.sampler import log_softmax
from tests.oracle.toy import MarkovModel
from toolkit.completion.complete import LM
from toolkit.errors import InvalidRequest

# A word that reads like a special token is spelt by the word only.
SPELLINGS = [
    b"" if i in VOCABULARY.specials.values() else t for i, t in enumerate(VOCABULARY.tokens)
]


def sequence(model: MarkovModel, tokens: list[int]) -> float:
    return sum(
        float(log_softmax(model.table[a].astype(float))[b]) for a, b in itertools.pairwise(tokens)
    )


@pytest.mark.parametrize(
    "choices",
    [
        ["joy", "sadness"],
        ["a", "ab", "abc", "abcd"],
        ["été", "é", "caf\u00e9"],
        ["two\nlines", 'a "quote"', "back\\slash", " leading"],
        ["😀!", "🚀go", "✓"],
    ],
)
@pytest.mark.parametrize("prompt", ["q", [97, 98], [0xF0]])
def test_choices_against_brute_force(toy: LM, model: MarkovModel, choices: list[str], prompt: Any):
    start = [*prompt.encode()] if isinstance(prompt, str) else prompt
    found = toy.choose(prompt, choices)
    assert [item.choice for item in found] == choices
    for item in found:
        data = item.choice.encode()
        assert b"".join(VOCABULARY.tokens[t] for t in item.tokens) == data
        assert item.logprob == pytest.approx(sequence(model, [start[-1], *item.tokens]), abs=1e-4)
        if len(tokenisations(data, SPELLINGS)) <= 64:
            exact = math.log(choice_probability(model, start, data, SPELLINGS))
            assert item.logprob_sum == pytest.approx(exact, abs=1e-4)
            assert item.logprob_sum >= item.logprob - 1e-9
        else:
            assert item.logprob_sum is None
    assert math.fsum(item.share for item in found) == pytest.approx(1)


def test_shares_are_of_the_canonical_tokens(toy: LM):
    xx, yy = toy.choose("P", ["x", "y"])
    assert xx.logprob == pytest.approx(-30, abs=1e-5) and xx.share == pytest.approx(0.5)
    assert ids(b"xx") != list(toy.choose("P", ["xx"])[0].tokens)  # text is spelt byte by byte
    assert toy.choose("P", ["xx"])[0].logprob_sum == pytest.approx(math.log(0.5), abs=1e-5)
    assert yy.tokens == (ord("y"),)


def test_impossible_choices_have_no_share(toy: LM):
    possible, impossible = toy.choose("U", ["c", "a"])
    assert (possible.share, impossible.share) == (1.0, 0.0)
    assert impossible.logprob == -math.inf and impossible.logprob_sum == -math.inf
    nothing = toy.choose("U", ["a", "b"])
    assert [item.logprob for item in nothing] == [-math.inf] * 2
    assert all(math.isnan(item.share) for item in nothing)


def test_long_choices_have_no_sum(toy: LM):
    (long,) = toy.choose("q", ["la" * 12])
    assert long.logprob_sum is None and len(long.tokens) == 24 and math.isfinite(long.logprob)


def test_a_thousand_choices(toy: LM):
    choices = [f"{number:03d}" for number in range(1000)]
    found = toy.choose("q", choices)
    assert len(found) == 1000 and math.fsum(item.share for item in found) == pytest.approx(1)


def test_an_empty_prompt_starts_a_document(toy: LM, beginning: LM):
    assert toy.choose("", ["a"]) == toy.choose([256], ["a"])
    assert beginning.choose("", ["a"]) == beginning.choose([beginning.tokenizer.bos_id], ["a"])
    assert beginning.choose("q", ["a"]) == beginning.choose(
        [beginning.tokenizer.bos_id, 113], ["a"]
    )


@pytest.mark.parametrize(
    ("prompt", "choices", "param"),
    [
        ("q", [], "guided_choice"),
        ("q", [""], "guided_choice"),
        ("q", "ab", "guided_choice"),
        ([], ["a"], "prompt"),
        (["q", "r"], ["a"], "prompt"),
        ([10**6], ["a"], "prompt"),
        ("q" * CONTEXT, ["a"], "prompt"),
    ],
)
def test_what_choose_refuses(toy: LM, prompt: Any, choices: Any, param: str):
    with pytest.raises(InvalidRequest) as caught:
        toy.choose(prompt, choices)
    assert caught.value.param == param
