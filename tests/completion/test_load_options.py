"""`load` with weights that are changed on the way: a narrower form, an adapter."""

from __future__ import annotations

import jax.numpy as jnp
import pytest

import toolkit
from tests.models.test_adapter import QUERY, pair, write_adapter
from tests.models.tiny import write_folder
from toolkit.errors import UnsupportedModel


def test_changed_weights_have_another_fingerprint(tmp_path):
    base = write_folder(tmp_path / "base")
    adapter = write_adapter(tmp_path / "lora", pair(QUERY, 64, 64))
    found = []
    for options in ({}, {"quant": "int8"}, {"adapter": adapter}):
        with toolkit.load(base, **options) as lm:
            found.append(lm.fingerprint)
    assert len(set(found)) == 3


@pytest.mark.slow
def test_a_completion_in_int8(tmp_path):
    with toolkit.load(write_folder(tmp_path), quant="int8", context=64) as lm:
        one = lm.complete([3, 1, 4], max_tokens=4, temperature=0, logprobs=2)
        assert one.record.choices[0].tokens[0].logprob < 0
        # The same bits alone and in company: whole numbers are summed exactly.
        two = lm.complete([[3, 1, 4], [5]], max_tokens=4, temperature=0, logprobs=2)
        assert [t.id for t in one.record.choices[0].tokens] == [
            t.id for t in two.record.choices[0].tokens
        ]


def test_an_unknown_form_is_refused(tmp_path):
    with pytest.raises(UnsupportedModel, match="`quant` 'fp8' is not handled"):
        toolkit.load(write_folder(tmp_path), quant="fp8")


def test_half_precision_keeps_logits_in_float32(tmp_path):
    with toolkit.load(write_folder(tmp_path), dtype="float16", context=64) as lm:
        assert lm.logits([3, 1, 4]).dtype == jnp.float32
