"""Section 6, cases 36 to 46: several choices, seeds, `best_of`."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import jax
import pytest

from tests.contract.surfaces import S, legacy_answer, record_of, strict_answer, strict_events
from tests.contract.toys import EOS
from toolkit.completion.complete import LM
from toolkit.completion.record import CompletionRecord

LONG = {"max_tokens": 24, "logit_bias": {str(EOS): -100}}
"""Random text after "q" that no EOS ends."""


def texts(lm: LM, prompt: Any = "q", **fields: Any) -> list[str]:
    return [choice["text"] for choice in lm.complete(prompt, **{**LONG, **fields})["choices"]]


def bits(record: CompletionRecord) -> list[list[tuple[int, float | None]]]:
    """Ids and exact logprobs of every choice."""
    return [[(token.id, token.logprob) for token in choice.tokens] for choice in record.choices]


def test_case_36_choices_are_in_index_order(toy: LM):
    answer = strict_answer(toy, ["A", "B"], n=2, echo=True, temperature=0)
    assert [choice["index"] for choice in answer["choices"]] == [0, 1, 2, 3]
    assert [choice["text"] for choice in answer["choices"]] == [
        "Aone two three",
        "Aone two three",
        "Babcd",
        "Babcd",
    ]


def test_case_37_an_event_has_one_choice_and_each_choice_one_end(toy: LM):
    events = strict_events(toy, ["A", "B"], n=2, temperature=0)
    assert all(len(event["choices"]) == 1 for event in events)
    choices = [event["choices"][0] for event in events]
    ends = [c["index"] for c in choices if c["finish_reason"] is not None]
    assert sorted(ends) == [0, 1, 2, 3]
    assert {c["finish_reason"] for c in choices} == {None, "stop"}


def test_case_38_greedy_choices_are_equal(toy: LM):
    assert len(set(texts(toy, n=3, temperature=0))) == 1


def test_case_39_choices_differ_and_repeat(toy: LM):
    eight = texts(toy, n=8, seed=7)
    assert len(set(eight)) == 8
    assert eight == texts(toy, n=8, seed=7)


def test_case_40_the_first_choice_is_the_only_one(toy: LM):
    assert texts(toy, n=4, seed=7)[0] == texts(toy, seed=7)[0]
    assert texts(toy, n=8, seed=7)[:4] == texts(toy, n=4, seed=7)


def test_case_41_the_next_choice_is_not_the_next_seed(toy: LM):
    firsts = [texts(toy, seed=seed)[0] for seed in range(20, 30)]
    seconds = [texts(toy, n=2, seed=seed)[1] for seed in range(20, 30)]
    assert not set(firsts) & set(seconds)


def test_case_42_a_prompt_is_the_same_alone_and_in_company(toy: LM):
    one, other = texts(toy, ["q", "q"], seed=7)
    assert one == other
    prompts = ["q", "a longer one", "r"]
    alone = [bits(record_of(toy, prompt, seed=7, **LONG))[0] for prompt in prompts]
    assert bits(record_of(toy, prompts, seed=7, **LONG)) == alone
    with ThreadPoolExecutor(4) as pool:
        strangers = [pool.submit(texts, toy, "s", n=5, seed=seed) for seed in range(8)]
        beside = [pool.submit(record_of, toy, prompts, seed=7, **LONG) for _ in range(4)]
        assert all(bits(future.result()) == alone for future in beside)
        assert all(len(future.result()) == 5 for future in strangers)


def test_case_43_unseeded_runs_differ_and_the_seed_used_replays(toy: LM):
    one, other = (toy.complete("q", **LONG) for _ in range(2))
    assert one.record.seed != other.record.seed
    assert one["choices"] != other["choices"]
    assert toy.complete("q", seed=one.record.seed, **LONG)["choices"] == one["choices"]
    assert -(2**63) <= one.record.seed < 2**63


PROCESS = """
import json, sys, toolkit
lm = toolkit.load(sys.argv[1], max_batch=8, strict=True)
fields = json.loads(sys.argv[2])
for _ in range(2):
    record = lm.complete("q", n=2, **fields).record
    tokens = [[(token.id, token.logprob) for token in choice.tokens] for choice in record.choices]
    print(json.dumps([record.seed, tokens]))
"""


def test_case_43_fresh_processes_differ_and_replay_here(toy: LM):
    cache = jax.config.values["jax_compilation_cache_dir"]
    root = Path(__file__).parents[2]
    environment = os.environ | {"PYTHONPATH": str(root)}
    if cache:
        environment |= {"JAX_COMPILATION_CACHE_DIR": cache}
    command = [sys.executable, "-c", PROCESS, toy.name, json.dumps(LONG)]
    running = [
        subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    answers = [json.loads(line) for p in running for line in p.communicate()[0].splitlines()]
    assert len({seed for seed, _ in answers}) == len({str(tokens) for _, tokens in answers}) == 4
    for seed, tokens in answers:
        here = bits(record_of(toy, "q", n=2, seed=seed, **LONG))
        assert [[list(pair) for pair in choice] for choice in here] == tokens


def test_case_44_best_of_takes_the_best_and_counts_all(toy: LM):
    fields = {**LONG, "seed": 7, "max_tokens": 6}
    four = record_of(toy, "q", S, n=4, **fields)
    best = legacy_answer(toy, "q", best_of=4, n=2, **fields)
    ranked = sorted(four.choices, key=lambda choice: -(choice.mean_logprob or 0))
    assert [choice["text"] for choice in best["choices"]] == [c.text for c in ranked[:2]]
    assert [choice["index"] for choice in best["choices"]] == [0, 1]
    assert best["usage"]["completion_tokens"] == 4 * 6 == four.usage.completion_tokens
    record = record_of(toy, "q", best_of=4, n=2, **fields)
    assert [c.candidate for c in record.choices] == [c.candidate for c in ranked[:2]]
    assert [c.candidate for c in record.rejected] == [c.candidate for c in ranked[2:]]


def test_case_44_each_prompt_has_its_own_best(toy: LM):
    fields = {**LONG, "seed": 7, "max_tokens": 6, "best_of": 4, "n": 2}
    both = record_of(toy, ["q", "r"], **fields)
    assert [c.index for c in both.choices] == [0, 1, 2, 3]
    assert bits(both) == [
        choice for prompt in "qr" for choice in bits(record_of(toy, prompt, **fields))
    ]


def test_case_45_candidates_are_ranked_by_their_mean(toy: LM):
    record = record_of(toy, "R", S, best_of=20, seed=1)
    means = {c.text: c.mean_logprob for c in (*record.choices, *record.rejected)}
    assert means["sh"] == pytest.approx(math.log(0.5) / 2, abs=1e-6)
    longest = (math.log(0.5) + 3 * math.log(0.9)) / 5
    assert means["longer!!"] == pytest.approx(longest, abs=1e-6)
    assert 5 * means["longer!!"] < 2 * means["sh"]  # a sum would choose the short one
    assert record.choices[0].text == "longer!!"


def test_case_46_equals_stand_in_the_order_of_their_draw(toy: LM):
    record = record_of(toy, "S", S, n=8, best_of=20, seed=1)
    assert {choice.text for choice in record.choices} == {"left", "right"}
    assert [choice.candidate for choice in record.choices] == list(range(8))
    assert [choice.candidate for choice in record.rejected] == list(range(8, 20))
    greedy = record_of(toy, "q", S, n=2, best_of=4, temperature=0)
    assert [choice.candidate for choice in greedy.choices] == [0, 1]
