"""A request in every spelling: what is copied gives the text on display."""

from __future__ import annotations

import json

import pytest
import yaml

from tests.widgets.conftest import VOCABULARY
from toolkit.errors import InvalidRequest
from toolkit.widgets.session import Session
from toolkit.widgets.settings import DEFAULT, NAMES, Settings

EVERYTHING = Settings(
    temperature=0.8,
    top_p=0.9,
    top_k=50,
    min_p=0.001,
    typical_p=0.99,
    presence_penalty=0.5,
    frequency_penalty=-0.25,
    repetition_penalty=1.1,
    logit_bias={97: 2.0, VOCABULARY.id_of(b" Rome"): -1.5},
    seed=2**62 + 1,
    max_tokens=9,
)


def test_neutral_parameters_are_left_out():
    assert Settings().parameters == {"seed": 0, "max_tokens": 32}
    assert set(EVERYTHING.parameters) == set(NAMES) - {"guided_choice"}
    assert Settings.of(EVERYTHING.parameters) == EVERYTHING
    assert Settings.of({"top_p": None}) == DEFAULT


def test_parameters_that_are_not_explored_are_refused():
    with pytest.raises(InvalidRequest, match="`stop` is not a parameter of the explorer"):
        Settings.of({"stop": "."})


@pytest.fixture(params=[6, 0], ids=["drawn", "empty"])
def session(small, request) -> Session:
    session = Session(small, 'a "quoted" text\nof two lines', EVERYTHING)
    session.refresh()
    if request.param:
        session.sample(request.param)
    return session


def shown(session: Session) -> list[int]:
    if not session.walk.path:  # nothing is drawn: the request is for max_tokens
        session.sample(EVERYTHING.max_tokens)
    return [step.id for step in session.walk.before]


def ids_of(answer) -> list[int]:
    return [token.id for token in answer.record.choices[0].tokens]


def test_the_code_gives_the_text_on_display(small, session):
    names = {"lm": small}
    exec(session.spelled("code"), names)
    assert ids_of(names["answer"]) == shown(session)


def test_the_json_gives_the_text_on_display(small, session):
    body = json.loads(session.spelled("json"))
    assert body.pop("model") == small.name
    body["logit_bias"] = {int(token): value for token, value in body["logit_bias"].items()}
    assert ids_of(small.complete(**body)) == shown(session)


def test_the_yaml_gives_the_text_on_display(small, session):
    declared = yaml.safe_load(session.spelled("yaml"))
    (prompt,), (seed,) = declared["prompts"], declared["seeds"]
    answer = small.complete(prompt, seed=seed, **declared["parameters"])
    assert ids_of(answer) == shown(session)


def test_the_yaml_keeps_words_that_it_would_read_as_booleans(small):
    session = Session(small, "ab", Settings(guided_choice=("yes", "no")))
    declared = yaml.safe_load(session.spelled("yaml"))
    assert declared["parameters"]["guided_choice"] == ["yes", "no"]


def test_a_forced_token_makes_the_text_no_requests_own(small, session):
    session.force("a")
    assert not session.pure
    assert session.parameters["max_tokens"] == EVERYTHING.max_tokens
