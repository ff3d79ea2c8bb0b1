"""Section 6, cases 69 to 81: what is reported about each token, and that it is the model's own."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from tests.contract.surfaces import (
    L,
    S,
    joined,
    legacy_answer,
    legacy_events,
    record_of,
    strict_answer,
    strict_events,
)
from tests.contract.toys import EOS, SIZE, SUN, TWIN, ids
from tests.oracle.sampler import log_softmax
from tests.oracle.toy import MarkovModel
from toolkit.completion.complete import LM
from toolkit.completion.response import legacy, strict

LONG = {"max_tokens": 24, "logit_bias": {str(EOS): -100}, "seed": 7}
NEAR = 2e-6
"""Of logits up to 30 in float32: two roundings of 2**-24 * 30."""


def reference(model: MarkovModel, tokens: Sequence[int]) -> list[float]:
    """log p(token | those before it) in float64, for all but the first."""
    return [
        float(log_softmax(model.table[last].astype(np.float64))[token])
        for last, token in itertools.pairwise(tokens)
    ]


def content(answer: dict[str, Any], index: int = 0) -> list[dict[str, Any]]:
    return answer["choices"][index]["logprobs"]["content"]


def test_case_69_an_entry_has_the_best_alternative(toy: LM, model: MarkovModel):
    answer = strict_answer(toy, "q", logprobs=True, n=4, **LONG)
    for entry in itertools.chain.from_iterable(content(answer, i) for i in range(4)):
        assert set(entry) == {"token", "bytes", "logprob", "top_logprobs"}
        (best,) = entry["top_logprobs"]
        assert entry["logprob"] <= best["logprob"] <= 0
    first = content(answer)[0]["top_logprobs"][0]
    expected = log_softmax(model.table[ord("q")].astype(np.float64))
    assert bytes(first["bytes"]) == toy.tokenizer.token_bytes(int(np.argmax(expected)))
    assert first["logprob"] == pytest.approx(expected.max(), abs=NEAR)


def test_case_70_no_logprobs_no_key(toy: LM):
    for fields in ({}, {"logprobs": False}):
        assert "logprobs" not in strict_answer(toy, "A", **fields)["choices"][0]
        assert all(
            "logprobs" not in event["choices"][0] for event in strict_events(toy, "A", **fields)
        )


SHAPES = {
    "logprobs": [False, True],
    "echo": [False, True],
    "prompt_logprobs": [None, 0, 2],
    "suffix": ["", "!"],
    "stop": [[], ["b"]],
    "max_tokens": [0, 5],
    "prompt": ["ab", [[97], [0xF0, 0x9F]]],
}


def test_case_70_every_combination_has_the_shape_of_the_specification(toy: LM):
    # The shared fixture validates each answer; here are many for it.
    for values in itertools.product(*SHAPES.values()):
        fields = {k: v for k, v in zip(SHAPES, values, strict=True) if v is not None}
        answer = strict_answer(toy, fields.pop("prompt"), n=2, seed=1, **fields)
        asked = fields["logprobs"] or "prompt_logprobs" in fields
        assert all(("logprobs" in choice) == asked for choice in answer["choices"])


@pytest.mark.parametrize("count", [0, 1, 3, 20])
def test_case_71_tables_hold_k_and_the_sampled_token(toy: LM, count: int):
    fields = {**LONG, "temperature": 2, "return_tokens_as_token_ids": True}  # names are distinct
    (choice,) = legacy_answer(toy, "q", logprobs=count, **fields)["choices"]
    arrays = choice["logprobs"]
    sizes = {len(table) for table in arrays["top_logprobs"]}
    assert sizes <= {count, count + 1} if count else sizes == {1}
    for name, value, table in zip(
        arrays["tokens"], arrays["token_logprobs"], arrays["top_logprobs"], strict=True
    ):
        assert table[name] == value  # the identical float
    assert count in (0, 20) or count + 1 in sizes  # something unlikely was drawn


def test_case_72_logprobs_are_the_models_own(toy: LM, model: MarkovModel):
    for fields in (
        {"temperature": 2},
        {"temperature": 0},
        {"top_p": 0.3},
        {"logit_bias": {str(ord("z")): 8, str(EOS): -100}},
        {"frequency_penalty": -2, "presence_penalty": 2},
        {"guided_choice": ["abc", "xyz", "né\n"]},
    ):
        record = record_of(toy, "q", S, logprobs=True, **{**LONG, **fields})
        (choice,) = record.choices
        found = [token.logprob for token in choice.tokens]
        expected = reference(model, [*record.prompts[0], *(t.id for t in choice.tokens)])
        assert found == pytest.approx(expected, abs=NEAR)


def test_case_72_processed_logprobs_are_asked_for(toy: LM):
    fields = {"logprobs": 2, "temperature": 0, "logprobs_mode": "processed", "max_tokens": 3}
    (choice,) = legacy_answer(toy, "q", **fields)["choices"]
    assert choice["logprobs"]["token_logprobs"] == [0, 0, 0]
    for name, table in zip(
        choice["logprobs"]["tokens"], choice["logprobs"]["top_logprobs"], strict=True
    ):
        assert table[name] == 0 and sorted(table.values())[:-1] == [-9999.0] * (len(table) - 1)


def test_case_73_all_probabilities_sum_to_one(everything: LM):
    answer = everything.complete("q", logprobs=-1, max_tokens=3, seed=1)
    for entry in content(answer):
        assert len(entry["top_logprobs"]) == SIZE
        total = math.fsum(math.exp(item["logprob"]) for item in entry["top_logprobs"])
        assert total == pytest.approx(1, abs=1e-5)
    (choice,) = legacy_answer(everything, "q", logprobs=SIZE, max_tokens=1, seed=1)["choices"]
    assert len(choice["logprobs"]["top_logprobs"][0]) == SIZE - 1  # two ids read alike


def test_case_74_echo_scores_the_prompt(toy: LM, model: MarkovModel):
    prompt = [*b"some words "]
    fields = {"echo": True, "logprobs": 2, "max_tokens": 0}
    (choice,) = legacy_answer(toy, prompt, **fields)["choices"]
    arrays = choice["logprobs"]
    assert arrays["token_logprobs"][0] is arrays["top_logprobs"][0] is None
    assert arrays["token_logprobs"][1:] == pytest.approx(reference(model, prompt), abs=NEAR)
    assert all(2 <= len(table) <= 3 for table in arrays["top_logprobs"][1:])
    assert legacy_answer(toy, "some words ", **fields)["choices"] == [choice]


def test_case_74_an_inserted_bos_is_in_no_array(beginning: LM):
    fields = {"echo": True, "logprobs": 0, "max_tokens": 1, "seed": 1}
    (choice,) = legacy_answer(beginning, "ab", **fields)["choices"]
    assert choice["text"].startswith("ab") and choice["logprobs"]["tokens"][:2] == ["a", "b"]
    assert choice["logprobs"]["token_logprobs"][0] is None
    assert choice["logprobs"]["text_offset"] == [0, 1, 2]
    (given,) = legacy_answer(beginning, [TWIN, 97, 98], **fields)["choices"]
    assert given["text"].startswith("<|begin|>ab")
    assert given["logprobs"]["text_offset"] == [0, 9, 10, 11]
    assert given["logprobs"]["token_logprobs"][2:] == choice["logprobs"]["token_logprobs"][1:]


def test_case_75_continuations_as_lm_eval_scores_them(toy: LM, model: MarkovModel):
    rng = np.random.default_rng(0)
    lengths = [(1, 1), (5, 3), (20, 7), (2, 30), (9, 1)]
    prompts = [rng.integers(0, 256, sum(pair)).tolist() for pair in lengths]
    prompts.append([*b"some J", *ids(b"ok")])  # EOS is generated after it
    lengths.append((6, 1))
    answer = legacy_answer(toy, prompts, echo=True, logprobs=1, max_tokens=1, temperature=0)
    for choice, prompt, (context, _) in zip(answer["choices"], prompts, lengths, strict=True):
        scored = choice["logprobs"]["token_logprobs"][context:-1]
        expected = reference(model, prompt)[context - 1 :]
        assert math.fsum(scored) == pytest.approx(math.fsum(expected), abs=1e-4)
        best = [max(t.values()) for t in choice["logprobs"]["top_logprobs"][context:-1]]
        greedy = [float(log_softmax(model.table[last]).max()) for last in prompt[context - 1 : -1]]
        assert best == pytest.approx(greedy, abs=NEAR)
    assert answer["choices"][-1]["logprobs"]["tokens"][-1] == "<|end|>"


def test_case_76_rescoring_gives_the_generated_logprobs(toy: LM):
    record = record_of(toy, ["q", "a longer prompt"], n=4, **LONG)
    for choice in record.choices:
        tokens = [token.id for token in choice.tokens]
        whole = [*record.prompts[choice.prompt_index], *tokens]
        (scored,) = toy.score(whole)
        found = [token.logprob for token in scored.tokens[-len(tokens) :]]
        assert found == pytest.approx([token.logprob for token in choice.tokens], abs=NEAR)


def test_case_76_eight_together_equal_each_alone_bit_for_bit(toy: LM):
    eight = record_of(toy, "q", n=8, logprobs=3, **LONG).choices
    for number in (0, 3):
        alone = record_of(toy, "q", n=number + 1, logprobs=3, **LONG).choices[number]
        assert [(t.id, t.logprob, t.top) for t in alone.tokens] == [
            (t.id, t.logprob, t.top) for t in eight[number].tokens
        ]


def test_case_77_minus_infinity_is_a_number(everything: LM):
    fields = {"logprobs": SIZE, "max_tokens": 1}
    (choice,) = legacy_answer(everything, "U", **fields)["choices"]
    table = choice["logprobs"]["top_logprobs"][0]
    assert table["a"] == table["b"] == -9999.0
    assert min(value for name, value in table.items() if name not in "ab") > -31
    impossible = strict_answer(everything, "U", guided_choice=["a"], logprobs=True)
    assert content(impossible)[0]["logprob"] == -9999.0
    scored = legacy_answer(everything, "Ua", echo=True, logprobs=0, max_tokens=0)
    assert scored["choices"][0]["logprobs"]["token_logprobs"] == [None, -9999.0]


def test_case_78_of_equal_names_the_larger_value_stays(toy: LM):
    sun = SUN.decode()
    larger = legacy_answer(toy, "V", logprobs=2, max_tokens=1, temperature=0)["choices"][0]
    smaller = legacy_answer(toy, "V", logprobs=2, max_tokens=1, logit_bias={str(TWIN): 50})
    smaller = smaller["choices"][0]
    for choice, own in ((larger, 0.6), (smaller, 0.4)):
        arrays = choice["logprobs"]
        assert choice["text"] == sun and arrays["tokens"] == [sun]
        assert arrays["token_logprobs"] == pytest.approx([math.log(own)], abs=NEAR)
        assert arrays["top_logprobs"][0] == pytest.approx({sun: math.log(0.6)}, abs=NEAR)
    named = legacy_answer(toy, "V", logprobs=2, max_tokens=1, return_tokens_as_token_ids=True)
    names = set(named["choices"][0]["logprobs"]["top_logprobs"][0])
    assert names == {f"token_id:{ids(SUN)[0]}", f"token_id:{TWIN}"}


@pytest.mark.parametrize("fixture", ["toy", "beginning"])
def test_case_79_prompt_logprobs_as_vllm_gives_them(
    fixture: str, request: pytest.FixtureRequest, model: MarkovModel
):
    lm: LM = request.getfixturevalue(fixture)
    inserted = [lm.tokenizer.bos_id] if fixture == "beginning" else []
    tokens = [*inserted, *b"one"]
    answer = legacy_answer(lm, "one", prompt_logprobs=2, n=2, max_tokens=1)
    first, second = (choice["prompt_logprobs"] for choice in answer["choices"])
    assert first == second and len(first) == len(tokens) and first[0] is None
    assert answer["choices"][0]["logprobs"] is None
    for last, token, entry in zip(tokens, tokens[1:], first[1:], strict=False):
        row = log_softmax(model.table[last].astype(np.float64))
        order = np.argsort(-row, kind="stable").tolist()
        assert next(iter(entry)) == str(token) and len(entry) in (2, 3)
        assert set(entry) == {str(token), *map(str, order[:2])}
        for name, item in entry.items():
            assert item["rank"] == order.index(int(name)) + 1
            assert item["logprob"] == pytest.approx(row[int(name)], abs=NEAR)
            assert item["decoded_token"] == lm.tokenizer.token_str(int(name))
    assert legacy_answer(lm, "one", max_tokens=1)["choices"][0]["prompt_logprobs"] is None


def test_case_79_minus_one_is_all_of_the_vocabulary(everything: LM):
    (choice,) = legacy_answer(everything, "one", prompt_logprobs=-1, max_tokens=1)["choices"]
    for entry in choice["prompt_logprobs"][1:]:
        assert len(entry) == SIZE
        assert sorted(item["rank"] for item in entry.values()) == [*range(1, SIZE + 1)]
        total = math.fsum(math.exp(item["logprob"]) for item in entry.values())
        assert total == pytest.approx(1, abs=1e-5)


def test_case_80_prompt_logprobs_come_first_in_the_strict_content(toy: LM, beginning: LM):
    fields = {"prompt_logprobs": 2, "max_tokens": 2, "temperature": 0}
    for off in ({}, {"logprobs": False}):
        answer = strict_answer(toy, "xA", **fields, **off)
        assert [entry["token"] for entry in content(answer)] == ["A"]  # nothing conditions "x"
        assert answer["choices"][0]["text"] == "one tw"
    answer = strict_answer(beginning, "xA", **fields)
    assert [entry["token"] for entry in content(answer)] == ["x", "A"]
    assert [len(entry["top_logprobs"]) for entry in content(answer)] == [2, 2]
    answer = strict_answer(toy, "xA", **fields, logprobs=True)
    assert [(e["token"], len(e["top_logprobs"])) for e in content(answer)] == [
        ("A", 2),
        ("one ", 1),
        ("tw", 1),
    ]
    assert content(strict_answer(toy, "xA", **fields, logprobs=True, echo=True)) == content(answer)
    echoed = strict_answer(toy, "xA", max_tokens=2, logprobs=True, echo=True)
    assert [(e["token"], len(e["top_logprobs"])) for e in content(echoed)] == [
        ("A", 1),
        ("one ", 1),
        ("tw", 1),
    ]


@pytest.mark.parametrize(
    "fields",
    [
        {"echo": True},
        {"stop": ["own fox"]},
        {"echo": True, "stop": ["og", "wn do"]},
        {"echo": True, "max_tokens": 0},
    ],
)
@pytest.mark.parametrize("prompt", ["F", "x\N{ROCKET}E", "", [97, 0xF0, 0x9F]])
def test_case_81_chunks_add_up_to_the_whole(toy: LM, prompt: Any, fields: dict[str, Any]):
    fields = {"seed": 1, "n": 2, "return_token_ids": True, **fields}
    record = record_of(toy, prompt, L, logprobs=2, **fields)
    added = joined(legacy_events(toy, prompt, logprobs=2, **fields))
    for choice in legacy(record)["choices"]:
        expected = {k: v for k, v in choice.items() if k != "prompt_logprobs"}
        if not choice["logprobs"]["tokens"]:
            expected["logprobs"] = None  # events without a token have no arrays
        assert added[choice["index"]] == expected
    del fields["return_token_ids"]
    whole = strict(record_of(toy, prompt, S, logprobs=True, **fields))
    added = joined(strict_events(toy, prompt, logprobs=True, **fields))
    for choice in whole["choices"]:
        found = added[choice["index"]]
        assert (found["text"], found["finish_reason"]) == (choice["text"], choice["finish_reason"])
        assert (found["logprobs"] or {"content": []}) == choice["logprobs"]
