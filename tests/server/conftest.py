"""The contract's toy model behind HTTP: in Flask's own client, and on a real server."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from flask.testing import FlaskClient

import toolkit
from tests.contract import toys
from tests.oracle.toy import write_toy
from toolkit.completion.candidate import Candidate
from toolkit.completion.complete import LM
from toolkit.server import Server, create_app, serve

STRICT, LEGACY = "/v1/openai/v1/completions", "/v1/completions"


@pytest.fixture(scope="session")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LM]:
    """The toy, by the name "toy"."""
    folder = tmp_path_factory.mktemp("served") / "toy"
    write_toy(folder, toys.table(), toys.VOCABULARY, context=toys.CONTEXT)
    with toolkit.load(folder, max_batch=8, strict=True) as lm:
        yield renamed(lm, "toy")


@pytest.fixture(scope="session")
def long(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LM]:
    """The toy with room for thousands of tokens, to be interrupted in the middle."""
    folder = tmp_path_factory.mktemp("served") / "long"
    write_toy(folder, toys.table(), toys.VOCABULARY, context=4096)
    with toolkit.load(folder, max_batch=8, strict=True) as lm:
        yield renamed(lm, "long")


def renamed(lm: LM, name: str) -> LM:
    """The same engine under another name."""
    return LM(lm.engine, lm.tokenizer, name=name, fingerprint=lm.fingerprint, limits=lm.limits)


def fail_at_third_token(monkeypatch: pytest.MonkeyPatch, fault: Exception) -> None:
    """From now on, let the third token of the first completion fail."""
    take, calls = Candidate.take, iter(range(1000))

    def failing(candidate: Candidate, tokens: Any) -> None:
        if next(calls) == 2:
            raise fault
        take(candidate, tokens)

    monkeypatch.setattr(Candidate, "take", failing)


@pytest.fixture
def client(toy: LM) -> FlaskClient:
    """Flask's test client of an application with default options."""
    return create_app(toy).test_client()


@pytest.fixture(scope="session")
def server(toy: LM) -> Iterator[Server]:
    """The toy on a real socket."""
    with serve(toy) as running:
        yield running


@pytest.fixture
def busy(long: LM) -> Callable[[], int]:
    """How many sequences the long model has in its batch."""
    return lambda: len(long.engine._scheduler.running)
