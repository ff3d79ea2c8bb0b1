"""A small model with a vocabulary of 600 for the widgets, loaded once: random rows, some words."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

import toolkit
from tests.oracle.toy import ToyVocabulary, random_table, write_toy
from toolkit.completion.complete import LM

WORDS = (b" Paris", b" Rome", b"yes", b"no", b"<b>x</b>", "\u202e".encode())
VOCABULARY = ToyVocabulary(words=WORDS + tuple(b"w%03d" % i for i in range(337)))
CONTEXT = 48


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LM]:
    """Any token may follow any other; the end of a text is rare."""
    table = random_table(VOCABULARY.size, 7)
    table[:, VOCABULARY.eos_id] = -4.0
    folder = tmp_path_factory.mktemp("small")
    write_toy(folder / "toy", table, VOCABULARY, context=CONTEXT)
    with toolkit.load(folder / "toy", max_batch=2, strict=True) as lm:
        yield lm
