"""The view in NumPy shows what the compiled sampler does, over all parameters mixed.

Where the float64 oracle says that a truncation is nearer than float32 can tell (`margin <= noise`),
the two may keep another token; everywhere else the sets are equal and the numbers agree. A draw
from the view gives the sampler's token wherever the oracle is certain of it.
"""

from __future__ import annotations

import jax
import numpy as np
import pytest

from tests.oracle.choice import sample
from tests.oracle.strategies import Case, cases
from tests.sampling.batches import draw_cases, gather
from toolkit.sampling.drawn import DROPPED_BY
from toolkit.sampling.params import Report, SamplingParams
from toolkit.sampling.variant import Variant
from toolkit.widgets.draw import draw
from toolkit.widgets.live import TRUNCATIONS, Live, Position, Row, live

ROWS = 64
EVERYTHING = 512
"""More alternatives than the largest vocabulary here."""


def view(case: Case) -> Live:
    position = Position(
        row=Row(case.logits),
        prompt=case.prompt_ids,
        generated=case.generated_ids,
        allowed=case.allowed_ids,
    )
    return live(position, case.params)


@pytest.mark.parametrize("vocab_size", [5, 11, 300])
def test_the_view_is_what_the_sampler_draws_from(vocab_size):
    found = gather(cases(vocab_size), 4 * ROWS)
    certain = 0
    for start in range(0, len(found) - ROWS + 1, ROWS):
        batch = found[start : start + ROWS]
        report = Report(top=vocab_size, details=True)
        drawn = draw_cases(batch, Variant(top=EVERYTHING), report=report)
        for row, case in enumerate(batch):
            try:
                mine = jax.tree.map(lambda x, row=row: x[row], drawn)
                certain += agrees(case, view(case), mine)
            except AssertionError as error:
                raise AssertionError(f"{error}\nin {case}") from error
    assert certain >= 0.9 * (len(found) - ROWS), "nearly all must be compared"


def agrees(case: Case, mine: Live, drawn) -> bool:
    """Check one position; whether its sets were certain and so compared."""
    top = drawn.scored.top_ids
    raw = np.exp(drawn.scored.top_logprobs.astype(np.float64))
    np.testing.assert_allclose(mine.raw[top], raw, rtol=0, atol=1e-6)
    np.testing.assert_allclose(mine.entropy, drawn.scored.entropy, rtol=1e-5, atol=1e-5)
    assert mine.rank(int(drawn.token)) == drawn.scored.rank
    step = sample(
        case.logits,
        case.params,
        prompt_ids=case.prompt_ids,
        generated_ids=case.generated_ids,
        allowed_ids=case.allowed_ids,
    )
    oracle = step.distribution
    if oracle.margin <= oracle.noise:
        return False
    if step.certain:
        assert draw(mine, step=len(case.generated_ids)) == drawn.token
    np.testing.assert_array_equal(mine.dropped[top], drawn.dropped)
    sampled = np.exp(drawn.top_sampling_logprobs.astype(np.float64))
    # Edits of logits in the thousands are rounded where float32 has few digits; else 1e-6.
    np.testing.assert_allclose(mine.sampled[top], sampled, rtol=0, atol=max(1e-6, oracle.noise))
    assert mine.support == drawn.support
    np.testing.assert_allclose(mine.kept_mass, drawn.kept_mass, rtol=0, atol=2e-6)
    spread = 1 + np.log(case.logits.size)
    np.testing.assert_allclose(
        mine.sampling_entropy,
        drawn.sampling_entropy,
        rtol=1e-5,
        atol=spread * max(1e-6, oracle.noise),
    )
    return True


def test_truncations_are_those_of_the_pipeline_in_its_order():
    assert list(DROPPED_BY[-len(TRUNCATIONS) :]) == [name for name, _ in TRUNCATIONS]


def test_a_position_worked_out_by_hand():
    # Probabilities 1/2, 1/4, 1/8, 1/8; at T = 1/2 their squares over the sum: 16, 4, 1, 1 over 22.
    logits = np.log(np.asarray([8, 4, 2, 2], np.float32))
    shown = live(Position(row=Row(logits)), SamplingParams(temperature=0.5, top_p=0.9))
    np.testing.assert_allclose(shown.raw, [0.5, 0.25, 0.125, 0.125], atol=1e-7)
    np.testing.assert_allclose(shown.tempered, np.asarray([16, 4, 1, 1]) / 22, atol=1e-7)
    np.testing.assert_allclose(shown.sampled, [0.8, 0.2, 0, 0], atol=1e-7)
    assert [shown.dropped_by(token) for token in range(4)] == [None, None, "top_p", "top_p"]
    assert (shown.support, shown.rank(3)) == (2, 4)
    assert shown.kept_mass == pytest.approx(0.75)
    assert shown.entropy / np.log(2) == pytest.approx(1.75)


@pytest.mark.parametrize(
    ("params", "fate"),
    [
        (SamplingParams(), None),
        (SamplingParams(temperature=0.0), "temperature"),
        (SamplingParams(top_k=1), "top_k"),
        (SamplingParams(top_p=0.1), "top_p"),
        (SamplingParams(min_p=0.9), "min_p"),
    ],
)
def test_the_view_names_what_drops_a_token(params, fate):
    shown = live(Position(row=Row(np.asarray([1, 0], np.float32))), params)
    assert shown.dropped_by(1) == fate
    assert shown.dropped_by(0) is None


def test_a_guide_drops_and_penalties_count_the_completion_only():
    position = Position(
        row=Row(np.zeros(4, np.float32)), prompt=[1], generated=[2, 2], allowed=[0, 1, 2]
    )
    shown = live(position, SamplingParams(presence_penalty=1.0, frequency_penalty=0.5))
    assert DROPPED_BY[shown.dropped[3]] == "guide"
    mass = np.asarray([1, 1, np.exp(-2.0), 0])  # 1 once, and 0.5 for each of two
    np.testing.assert_allclose(shown.sampled, mass / mass.sum(), atol=1e-7)
