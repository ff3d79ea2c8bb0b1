"""What every stage of the pipeline must keep to, whichever is added."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import pytest

from tests.sampling.batches import STAGES, apply, each, history_of, no_guide, one_of, rows_of
from toolkit.models.compiler import jit
from toolkit.sampling.guide import pack
from toolkit.sampling.params import SamplingParams
from toolkit.sampling.transforms import PIPELINE, History, temperature

ROWS = 8


def shifted(vocab_size: int) -> np.ndarray:
    """Logits of many shapes whose largest is 0, as every stage must be able to take them."""
    rng = np.random.default_rng(vocab_size)
    logits = rng.normal(size=(ROWS, vocab_size)) * np.array([[0.01, 0.1, 1, 1, 3, 10, 0, 30]]).T
    logits[3, rng.random(vocab_size) < 0.3] = -np.inf
    logits[4] = np.round(logits[4])
    return (logits - logits.max(axis=1, keepdims=True) + 0.0).astype(np.float32)  # no -0.0


def some_history(vocab_size: int, nodes: Sequence[int]) -> History:
    """Rows that have generated three of the first five ids and were prompted with some."""
    generated = [[i % 5, (i + 1) % 5, i % 5] for i in range(ROWS)]
    return history_of(vocab_size, generated, [[0, i % 5] for i in range(ROWS)], nodes)


ACTIVE = SamplingParams(
    temperature=0.7,
    top_p=0.8,
    top_k=200,
    min_p=0.05,
    typical_p=0.7,
    repetition_penalty=1.3,
    frequency_penalty=0.5,
    presence_penalty=-0.5,
    logit_bias={0: 1.5, 3: -2.0},
    min_tokens=9,
    stop_ids=(2, 4),
)
ZERO = dataclasses.replace(ACTIVE, temperature=0.0, top_p=0.0, top_k=1, stop_ids=(0,))
NEUTRAL = SamplingParams(stop_ids=(1, 2))


def bits(x: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(x).view(np.uint32)


def test_the_pipeline_has_the_order_of_the_contract():
    assert [stage.name for stage in PIPELINE] == [
        *["logit_bias", "penalties", "guide", "min_tokens", "temperature", "temperature"],
        *["top_k", "top_p", "min_p", "typical_p"],
    ]


@pytest.mark.parametrize("vocab_size", [11, 1500])
@pytest.mark.parametrize("name", STAGES)
def test_neutral_parameters_change_no_bit(name, vocab_size):
    logits, tables = shifted(vocab_size), pack([one_of([1])])[0]
    history = some_history(vocab_size, [0] * ROWS)
    out = apply(name, logits, *[NEUTRAL] * ROWS, history=history, tables=tables)
    np.testing.assert_array_equal(bits(out), bits(logits))


@pytest.mark.parametrize("vocab_size", [11, 1500])
@pytest.mark.parametrize("name", STAGES)
def test_a_row_does_not_depend_on_its_neighbours_parameters(name, vocab_size):
    logits = shifted(vocab_size)
    tables, (start,) = pack([one_of([1, 2, 4])])
    mixed = [(ACTIVE, start), (ZERO, 0), (NEUTRAL, start), (ACTIVE, 0)] * 2
    whole = apply(
        name,
        logits,
        *(params for params, _ in mixed),
        history=some_history(vocab_size, [node for _, node in mixed]),
        tables=tables,
    )
    for row, (params, node) in enumerate(mixed):
        rows, nodes = [NEUTRAL] * ROWS, [0] * ROWS
        rows[row], nodes[row] = params, node
        lone = apply(name, logits, *rows, history=some_history(vocab_size, nodes), tables=tables)
        np.testing.assert_array_equal(bits(lone[row]), bits(whole[row]))


@pytest.mark.parametrize("stage", range(len(PIPELINE)))
def test_other_values_do_not_trace_again(stage):
    traces = []

    @jit
    def counted(x, rows, history, tables):
        traces.append(x.shape)
        return PIPELINE[stage].apply(x, rows, history, tables)

    logits = shifted(11)
    tables, (start,) = pack([one_of([1])])
    for params, node in ((NEUTRAL, 0), (ACTIVE, start), (ZERO, 0)):
        counted(logits, rows_of(*[params] * ROWS), some_history(11, [node] * ROWS), tables)
    assert len(traces) == 1


@pytest.mark.parametrize("stage", range(len(PIPELINE)))
def test_a_stage_says_which_rows_it_changes(stage):
    """The sampler skips a stage that no row needs: what it calls inactive must stay as it is."""
    vocab_size, current = 11, PIPELINE[stage]
    tables, (start,) = pack([one_of([1, 2, 4])])
    mixed = [(ACTIVE, start), (ZERO, 0), (NEUTRAL, start), (NEUTRAL, 0)] * 2
    rows, history = rows_of(*(p for p, _ in mixed)), some_history(vocab_size, [n for _, n in mixed])
    active = np.asarray(jit(current.active)(rows, history))
    logits = shifted(vocab_size)
    out = np.asarray(jit(current.apply)(logits, rows, history, tables))
    np.testing.assert_array_equal(bits(out[~active]), bits(logits[~active]))
    assert active.any()


def test_temperature_makes_the_largest_logit_zero_for_all_that_follows():
    logits = np.random.default_rng(0).normal(40, 30, (4, 300)).astype(np.float32)
    out = jit(temperature)(logits, rows_of(*each("temperature", 0.0, 1e-7, 1.0, 2.0)))
    assert np.asarray(out).max(axis=1).tolist() == [0] * 4


def test_a_whole_pipeline_keeps_at_least_one_token():
    logits = shifted(1500)
    worst = dataclasses.replace(
        ACTIVE, top_p=0.0, typical_p=0.0, min_p=1.0, top_k=1, temperature=1e-7
    )
    rows, history = rows_of(*[worst] * ROWS), some_history(1500, [0] * ROWS)
    for stage in PIPELINE:
        logits = np.asarray(jit(stage.apply)(logits, rows, history, no_guide()))
        assert not np.isnan(logits).any() and (logits.max(axis=1) > -np.inf).all()
    assert ((logits > -np.inf).sum(axis=1) == 1).all()
