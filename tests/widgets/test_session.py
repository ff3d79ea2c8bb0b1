"""What the explorer does without a widget: settings, probe, pin, pages."""

from __future__ import annotations

import html.parser

import numpy as np
import pytest

from tests.widgets.conftest import VOCABULARY
from toolkit.errors import InvalidRequest
from toolkit.widgets.bars import top
from toolkit.widgets.page import page
from toolkit.widgets.session import Session
from toolkit.widgets.settings import Settings
from toolkit.widgets.text import text

PROMPT = "<script>alert(1)</script> & \u202e"


@pytest.fixture
def session(small) -> Session:
    session = Session(small, PROMPT, Settings(temperature=0.9))
    session.refresh()
    return session


class Parsed(html.parser.HTMLParser):
    """The names of all elements, and all text."""

    def __init__(self, source: str):
        super().__init__()
        self.names: set[str] = set()
        self.text = ""
        self.depth = 0
        self.feed(source)

    def handle_starttag(self, tag, attrs):
        self.names.add(tag)
        self.depth += tag not in ("circle", "path", "polyline")

    def handle_startendtag(self, tag, attrs):
        self.names.add(tag)

    def handle_endtag(self, tag):
        self.depth -= 1

    def handle_data(self, data):
        self.text += data


ELEMENTS = {"div", "span", "table", "tr", "td", "th", "svg", "path", "polyline", "circle", "text"}


def test_a_page_holds_no_element_that_the_model_wrote(small, session):
    hostile = [VOCABULARY.id_of(piece) for piece in (b"<b>x</b>", "\u202e".encode())]
    session.set(logit_bias=dict.fromkeys(hostile, 9.0), top_p=0.999)
    session.probe("<b>x</b>")
    session.pin()
    session.force(f"#{hostile[0]}")
    session.force(f"#{hostile[1]}")
    session.refresh()
    for source in (page(session) or "", text(session.walk)):
        parsed = Parsed(source)
        assert parsed.names <= ELEMENTS, parsed.names - ELEMENTS
        assert parsed.depth == 0
        assert "\u202e" not in parsed.text
        assert "<202E>" in parsed.text
    assert "<script>alert(1)</script>" in Parsed(text(session.walk)).text


def test_of_a_long_text_what_is_around_the_cursor_is_shown(session, monkeypatch):
    monkeypatch.setattr("toolkit.widgets.text.BEFORE", 3)
    monkeypatch.setattr("toolkit.widgets.text.AFTER", 2)
    session.force("abcdefgh")
    session.walk.move(5)
    assert Parsed(text(session.walk)).text.replace("✎", "") == "… 2 tokens …cde\u200bfg… 1 tokens"
    session.walk.move(1)
    shown = Parsed(text(session.walk)).text.replace("✎", "")
    assert shown.endswith("a\u200bbc… 5 tokens") and "<script>" in shown


def test_the_numbers_on_the_page_are_those_of_the_view(session):
    session.set(top_k=7, top_p=0.8)
    shown, read = session.live(), Parsed(page(session)).text
    assert f"{shown.sampling_entropy / np.log(2):.2f}" in read
    assert f"can be drawn600{shown.support}" in read
    assert f"top_p 0.8: {shown.nucleus}" in read
    assert shown.support <= 7
    assert read.count("top_k") == 13  # the 20 best, of which 7 are kept


def test_a_setting_out_of_range_changes_nothing(session):
    before = session.settings
    for change in ({"top_p": 1.5}, {"seed": "abc"}, {"logit_bias": {9999: 1.0}}):
        with pytest.raises(InvalidRequest, match=next(iter(change))):
            session.set(**change)
    assert session.settings == before


def test_changing_settings_runs_nothing_and_compiles_nothing(small, session):
    session.pin()
    page(session)
    stats = small.stats()
    before = stats.steps, stats.prefilled, stats.reused, len(stats.compiles)
    for k in range(1, 40):
        session.set(
            temperature=k / 20, top_p=1 - k / 50, top_k=k, min_p=k / 100, presence_penalty=k / 20
        )
        session.set(typical_p=1 - k / 80, repetition_penalty=1 + k / 40, logit_bias={k: 1.0})
        assert "KL(A" in (page(session) or "")
    assert (stats.steps, stats.prefilled, stats.reused, len(stats.compiles)) == before


def test_values_have_one_form(small):
    given = {"logit_bias": {"98": 2}, "top_k": -1, "guided_choice": ["b", "a", "b"]}
    session = Session(small, "ab", Settings.of(given | {"temperature": np.float32(0.5)}))
    assert session.settings == Settings(
        logit_bias={98: 2.0}, guided_choice=("b", "a"), temperature=0.5
    )
    assert repr(session.settings.temperature) == "0.5"
    with pytest.raises(InvalidRequest, match="`guided_choice` must be a list"):
        Session(small, "ab", Settings.of({"guided_choice": "yes"}))


def test_a_page_waits_for_logits_that_are_not_here(session):
    session.force("a")
    assert page(session) is None
    session.refresh()
    assert page(session) is not None


def test_a_probe_takes_the_first_token_and_says_how_many_there_are(small, session):
    assert session.probe(" P") == (32, 80)
    assert session.probed == 32
    assert session.probe("#300") == (300,)
    assert session.probe("") == () and session.probed is None
    with pytest.raises(InvalidRequest, match="#600"):
        session.probe("#600")


def test_a_token_that_only_the_bias_lifts_is_shown(session):
    least = int(np.argmin(session.live().raw))
    assert least not in top(session.live())
    session.set(logit_bias={least: 50.0})
    assert least in top(session.live())


def test_samples_go_on_from_the_cursor_and_leave_the_text(small, session):
    session.set(max_tokens=4)
    session.sample(2)
    path = session.walk.path
    answer = session.samples(2)
    assert session.walk.path == path
    assert [len(choice.tokens) <= 4 for choice in answer.record.choices] == [True] * 2
    start = len(session.walk.prompt_ids)
    assert answer.record.prompts[0][start:] == tuple(step.id for step in path)
    session.walk.move(0)
    first = session.samples(2).record.choices[0]
    assert [token.id for token in first.tokens][:2] == [step.id for step in path]


def test_another_prompt_begins_a_new_text(session):
    session.sample(2)
    session.restart("xy")
    assert session.walk.prompt == "xy" and session.walk.path == ()
    with pytest.raises(InvalidRequest, match="context"):
        session.restart("x" * 99)
    assert session.walk.prompt == "xy"
