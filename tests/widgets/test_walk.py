"""Walking a text: its logits, its own draws, forced tokens, guides and ends."""

from __future__ import annotations

import numpy as np
import pytest

from tests.widgets.conftest import CONTEXT, VOCABULARY
from toolkit.errors import InvalidRequest
from toolkit.widgets.session import ENDED, Session
from toolkit.widgets.settings import Settings
from toolkit.widgets.walk import Step, Walk
from toolkit.widgets.worker import Stopped

WARM = Settings(temperature=0.9, top_p=0.95, presence_penalty=0.5, seed=3)


def ids(walk: Walk) -> list[int]:
    return [step.id for step in walk.before]


def drawn(lm, prompt, settings: Settings, count: int) -> list[int]:
    """The tokens of the request itself."""
    fields = settings.parameters | {"max_tokens": count}
    return [token.id for token in lm.complete(prompt, **fields).record.choices[0].tokens]


def test_the_row_at_the_cursor_is_what_the_model_says(small):
    walk = Walk(small, "ab")
    table = small.logits("b")
    np.testing.assert_array_equal(walk.position().row.logits, table)
    walk.force(VOCABULARY.id_of(b" Paris"))
    after = walk.position()
    assert after.generated == (VOCABULARY.id_of(b" Paris"),)
    np.testing.assert_array_equal(after.row.logits, small.logits([VOCABULARY.id_of(b" Paris")]))


def test_a_sampled_text_is_the_one_of_the_request(small):
    walk = Walk(small, "ab")
    for count in (1, 1, 4):
        walk.sample(WARM, count)
    assert ids(walk) == drawn(small, "ab", WARM, 6)
    assert walk.pure(WARM)
    assert not walk.pure(Settings(seed=4))


def test_clicks_on_sample_1_are_drawn_ahead(small):
    walk = Walk(small, "cd")
    walk.sample(WARM, 1)
    steps = small.stats().steps
    for _ in range(5):
        walk.sample(WARM, 1)
    assert small.stats().steps == steps
    assert ids(walk) == drawn(small, "cd", WARM, 6)


def test_a_text_drawn_here_equals_the_one_that_the_engine_draws(small):
    walk = Walk(small, "ab")
    walk.sample(WARM, 1)
    first = walk.before[0]
    assert first.drawn_by is not None
    walk._place = ((Step(id=first.id, logprob=first.logprob),), 1)  # whose token it is, forgotten
    walk.sample(WARM, 7)
    assert not any(step.drawn_by for step in walk.before)
    assert ids(walk) == drawn(small, "ab", WARM, 8)


def test_a_token_drawn_here_has_the_logprob_that_the_engine_reports(small):
    walk = Walk(small, "ab")
    walk.sample(WARM, 3)
    reported = [step.logprob for step in walk.before]
    steps = walk.before
    walk.move(0)
    walk.back()
    for step in steps:
        walk.force(step.id)
    np.testing.assert_allclose([step.logprob for step in walk.before], reported, atol=1e-5)


def test_moving_keeps_the_text_and_drawing_in_it_replaces_the_rest(small):
    walk = Walk(small, "ab")
    walk.sample(WARM, 5)
    whole = ids(walk)
    walk.move(2)
    assert ids(walk) == whole[:2] and len(walk.path) == 5
    walk.force(VOCABULARY.id_of(b"yes"))
    assert ids(walk) == [*whole[:2], VOCABULARY.id_of(b"yes")] and len(walk.path) == 3
    walk.back()
    assert ids(walk) == whole[:2] and len(walk.path) == 2
    walk.move(99)
    assert walk.cursor == 2
    walk.move(-5)
    assert walk.cursor == 0


def test_back_from_the_start_is_nothing(small):
    walk = Walk(small, "ab")
    walk.back()
    assert walk.path == () and walk.cursor == 0


def test_a_stopped_text_keeps_what_was_drawn(small):
    walk = Walk(small, "ab")
    grown: list[int] = []

    def watch() -> None:
        if len(walk.path) >= 3:
            raise Stopped

    with pytest.raises(Stopped):
        walk.sample(WARM, 30, watch=watch, told=lambda: grown.append(len(walk.path)))
    assert 3 <= len(walk.path) < 30
    assert grown == sorted(grown)
    assert ids(walk) == drawn(small, "ab", WARM, len(walk.path))
    assert walk.pure(WARM)


def test_the_end_of_sequence_token_ends_a_text(small):
    eager = Settings(logit_bias={VOCABULARY.eos_id: 100.0})
    session = Session(small, "ab", eager)
    assert session.sample(8) == ENDED
    assert ids(session.walk) == [VOCABULARY.eos_id]
    assert session.sample(8) == ENDED
    assert ids(session.walk) == [VOCABULARY.eos_id]
    session.set(seed=1)  # no longer the request's own text, and still over
    assert session.sample(8) == ENDED
    assert ids(session.walk) == [VOCABULARY.eos_id]


def test_the_end_of_the_context_ends_a_text(small):
    session = Session(small, "ab", WARM)
    assert session.sample(999) == ENDED
    assert session.walk.cursor == CONTEXT - 2
    with pytest.raises(InvalidRequest, match="the context of 48 is full"):
        session.force("a")
    assert session.walk.cursor == CONTEXT - 2


@pytest.mark.parametrize("forget", [False, True])
def test_a_guide_shows_what_it_allows_and_ends_with_a_choice(small, forget):
    settings = Settings(guided_choice=("yes", "no"), seed=5)
    session = Session(small, "ab", settings)
    shown = session.refresh()
    allowed = {VOCABULARY.id_of(piece) for piece in (b"y", b"yes", b"n", b"no")}
    assert set(np.flatnonzero(shown.alive).tolist()) == allowed
    assert shown.dropped_by(VOCABULARY.id_of(b"a")) == "guide"
    if forget:
        session.walk.force(VOCABULARY.id_of(b"y"))
    assert session.sample(8) == ENDED
    assert small.tokenizer.decode(ids(session.walk)) in (["yes"] if forget else ["yes", "no"])


def test_a_text_that_leaves_its_guide_is_free(small):
    session = Session(small, "ab", Settings(guided_choice=("yes", "no")))
    session.force("a")
    assert session.refresh().support == VOCABULARY.size
    session.sample(2)
    assert session.walk.cursor == 3
