"""Records as JSON: what comes back is what was written, bit for bit."""

from __future__ import annotations

import dataclasses
import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.completion.records import AB, PROMPT, alternative, choice, record, sampled
from toolkit.completion.record import CompletionRecord
from toolkit.experiments.compact import from_json, to_json

FLOATS = (
    "logprob",
    "sampling_logprob",
    "entropy",
    "sampling_entropy",
    "kept_mass",
    "bias",
    "penalty",
)


def there_and_back(made: CompletionRecord) -> CompletionRecord:
    text = json.dumps(to_json(made), allow_nan=False)
    return from_json(made.request, json.loads(text))


def test_a_plain_record():
    made = record(choice(*AB, text="ab", stop_reason="c", finish_reason="stop"), logprobs=2)
    assert there_and_back(made) == made


def test_no_tokens_no_likelihood():
    made = record(choice(), max_tokens=0)
    assert there_and_back(made) == made


def test_scored_prompts_are_written_once_and_shared_again():
    both = [choice(*AB, index=i, prompt_tokens=PROMPT, inserted=1) for i in (0, 1)]
    made = record(*both, echo=True, logprobs=2, n=2)
    assert len(to_json(made)["prompt_tokens"]) == 1
    back = there_and_back(made)
    assert back == made
    assert back.choices[0].prompt_tokens is back.choices[1].prompt_tokens


def test_bytes_that_are_no_text_and_hidden_and_special_tokens():
    others = (alternative(7, -1, bytes=b"\xff"),)
    token = sampled(5, 0, bytes=b"\xf0\x9f", contributes=False, special=True, top=others)
    made = record(choice(token, *AB))
    assert there_and_back(made) == made


def test_minus_infinity_and_what_dropped_it():
    top = (
        alternative(1, -0.5, sampling_logprob=0.0, dropped_by=None),
        alternative(2, -math.inf, sampling_logprob=-math.inf, dropped_by="top_p"),
    )
    made = record(choice(sampled(1, 0, -math.inf, sampling_logprob=-math.inf, top=top)))
    assert there_and_back(made) == made


def test_float32_has_nine_digits_and_float64_all():
    single, double = float(np.float32(-1.2345678)), -1.2345678
    made = record(choice(sampled(1, 0, single, entropy=double, top=(alternative(3, double),))))
    (tokens,) = (c["tokens"] for c in to_json(made)["choices"])
    assert tokens["logprob"] == [-1.23456776]
    assert tokens["entropy"] == [double]
    assert there_and_back(made) == made


def test_rejected_candidates_and_what_a_choice_says_of_itself():
    chosen = choice(*AB, candidate=1, text="hiab!", echoed="hi", completion="ab", suffix="!")
    made = dataclasses.replace(record(chosen, best_of=2), rejected=(choice(AB[0], index=1),))
    assert there_and_back(made) == made


@given(
    st.lists(
        st.fixed_dictionaries(
            {name: st.none() | st.floats(width=32, allow_nan=False) for name in FLOATS}
            | {"rank": st.none() | st.integers(1, 2**31), "support": st.none() | st.integers(1)}
        ),
        max_size=4,
    )
)
def test_every_float32_survives(fields):
    made = record(choice(*(sampled(i, i, **values) for i, values in enumerate(fields))))
    assert there_and_back(made) == made


@pytest.mark.parametrize("value", [1e-45, 3.4028235e38, -0.0, 1 / 3])
def test_odd_numbers_keep_their_bits(value):
    single = float(np.float32(value))
    back = there_and_back(record(choice(sampled(1, 0, single)))).choices[0].tokens[0].logprob
    assert np.float64(back).tobytes() == np.float64(single).tobytes()
