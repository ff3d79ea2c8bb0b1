"""`LM.score`: log-probabilities of given text, nothing generated."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from tests.contract.surfaces import legacy_answer
from tests.contract.toys import CONTEXT
from tests.oracle.sampler import log_softmax
from tests.oracle.toy import MarkovModel
from toolkit.completion.complete import LM
from toolkit.errors import InvalidRequest


def test_a_text_is_scored_as_its_echo_is(toy: LM):
    (score,) = toy.score("some words", top=3)
    echoed = legacy_answer(toy, "some words", echo=True, logprobs=3, max_tokens=0)
    arrays = echoed["choices"][0]["logprobs"]
    assert [token.logprob for token in score.tokens] == arrays["token_logprobs"]
    assert [token.offset for token in score.tokens] == arrays["text_offset"]
    assert [len(token.top) for token in score.tokens] == [0] + [3] * 9
    assert score.logprob == pytest.approx(math.fsum(arrays["token_logprobs"][1:]))
    assert score.perplexity == pytest.approx(math.exp(-score.logprob / 9))


def test_bos_is_the_condition_of_the_first_token(beginning: LM):
    (score,) = beginning.score("ab")
    assert [token.logprob is None for token in score.tokens] == [True, False, False]
    (bare,) = beginning.score("ab", add_special_tokens=False)
    assert [token.id for token in bare.tokens] == [97, 98]
    assert bare.tokens[1].logprob == score.tokens[2].logprob


def test_many_texts_of_many_lengths(toy: LM, model: MarkovModel):
    rng = np.random.default_rng(1)
    texts = [rng.integers(0, 256, size).tolist() for size in rng.integers(1, CONTEXT + 1, 150)]
    before = toy.stats().generated
    scores = toy.score(texts)
    rows = [log_softmax(row.astype(np.float64)) for row in model.table]
    for ids, score in zip(texts, scores, strict=True):
        assert [token.id for token in score.tokens] == ids
        expected = sum(float(rows[a][b]) for a, b in itertools.pairwise(ids))
        assert score.logprob == pytest.approx(expected, abs=1e-4)
    assert toy.stats().generated == before


def test_a_lone_token_has_no_score(toy: LM):
    for text in ("", "x", [5]):
        (score,) = toy.score(text)
        assert score.logprob == 0 and math.isnan(score.perplexity) and len(score.tokens) == 1


def test_impossible_text(toy: LM):
    (score,) = toy.score("Ua")
    assert score.logprob == -math.inf and score.perplexity == math.inf


def test_what_score_refuses(toy: LM):
    for texts in ([], [[]], 5, ["a", 5], ["x", "x" * (CONTEXT + 1)], [10**6]):
        with pytest.raises(InvalidRequest) as caught:
            toy.score(texts)
        assert caught.value.param == "prompt"
