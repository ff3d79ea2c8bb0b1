"""The engine as a target: shapes, records, and an identity that names what decides the answers."""

from __future__ import annotations

import json
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

from tests.experiments import wrong_servers
from tests.oracle.toy import ToyVocabulary, write_toy
from toolkit.completion.complete import LM
from toolkit.completion.text import Tokenizer
from toolkit.errors import InvalidRequest
from toolkit.experiments import faults
from toolkit.experiments.target import Local, Streaming, Target
from toolkit.experiments.target.named import as_target
from toolkit.experiments.target.sums import tokenizer_sum, weights_sum
from toolkit.sampling.version import SAMPLER


@pytest.fixture(scope="module")
def toy(printable: LM) -> LM:
    return printable


def test_answers_have_the_legacy_shape_and_the_record(toy: LM):
    local = Local(toy)
    assert isinstance(local, Target)
    assert isinstance(local, Streaming)
    answer = local.complete({"prompt": "a", "max_tokens": 3, "temperature": 0, "logprobs": 2})
    assert answer.record is not None
    assert answer.body["choices"][0]["text"] == answer.record.choices[0].text
    assert len(answer.body["choices"][0]["logprobs"]["text_offset"]) == 3
    assert answer.seconds > 0
    assert answer.first_token is not None
    events = local.stream({"prompt": "a", "max_tokens": 3, "temperature": 0})
    joined = "".join(c["text"] for e in events.chunks for c in e["choices"])
    assert joined == answer.body["choices"][0]["text"]
    assert local.tokenize("ab") == [97, 98]


def test_fields_are_checked_and_another_model_is_refused(toy: LM):
    local = Local(toy)
    with pytest.raises(InvalidRequest, match="`prompt` is required"):
        local.complete({"max_tokens": 1})
    with pytest.raises(InvalidRequest, match="is not served here"):
        local.complete({"prompt": "a", "model": "other"})
    assert local.complete({"prompt": "a", "model": "toy", "max_tokens": 0}).body["choices"]


def test_identity_is_that_of_weights_tokenizer_and_sampler(toy: LM, tmp_path: Path):
    found = Local(toy).identity()
    assert found["sampler"] == SAMPLER
    with wrong_servers.load(tmp_path / "same") as again:
        other = Local(again).identity()
        assert {**other, "says": None} == {**found, "says": None}, "the folder does not matter"


def test_one_changed_weight_is_another_sum(toy: LM):
    before = weights_sum(toy.engine)
    with faults.quantised_weights(toy, bits=16) as copy:
        leaves = list(toy.engine.leaves)
        copy.engine.leaves = tuple(leaves)
        assert weights_sum(copy.engine) == before
    with faults.quantised_weights(toy, bits=16) as copy:
        place = next(i for i, leaf in enumerate(leaves) if leaf.ndim == 2)
        leaves[place] = leaves[place].at[0, 0].add(jnp.float32(1e-3))
        copy.engine.leaves = tuple(leaves)
        assert weights_sum(copy.engine) != before


def test_a_bos_in_front_is_another_tokenizer(toy: LM, tmp_path: Path):
    vocabulary = ToyVocabulary(bos=True)
    sums = [tokenizer_sum(toy.tokenizer)]
    for begins in (True, False):
        folder = write_toy(tmp_path / str(begins), np.zeros((258, 258), np.float32), vocabulary)
        if not begins:
            told = json.loads((folder / "tokenizer_config.json").read_text())
            (folder / "tokenizer_config.json").write_text(json.dumps({**told, "bos_token": None}))
        sums.append(tokenizer_sum(Tokenizer.from_folder(folder, vocab_size=258)))
    assert len(set(sums)) == 3


def test_what_may_be_a_target(toy: LM):
    assert isinstance(as_target(toy), Local)
    local = Local(toy)
    assert as_target(local) is local
    remote = as_target("http://127.0.0.1:9/v1", model="m")
    assert remote.name == "127.0.0.1:9 m"
    remote.close()
    with pytest.raises(InvalidRequest, match="must be a loaded model"):
        as_target("a folder")


def test_draws_are_those_of_this_version_of_the_sampler(toy: LM):
    """If this fails, the same request draws other tokens than before: raise `SAMPLER`."""
    asked = {"prompt": "a", "temperature": 0.9, "top_p": 0.9, "seed": 2**40 + 5, "max_tokens": 12}
    answer = Local(toy).complete({**asked, "frequency_penalty": 0.5, "n": 2})
    assert SAMPLER == "2"
    assert [choice["text"] for choice in answer.body["choices"]] == [" codhok.m mj", "kcpagln.pde "]
