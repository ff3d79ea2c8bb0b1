"""The toy models of the contract's cases, each loaded once. All have the same shape, so that they
run the same compiled programs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import toolkit
from tests.contract import toys
from tests.oracle.toy import MarkovModel, ToyVocabulary, write_toy
from toolkit.completion.complete import LM
from toolkit.completion.request import Limits


@pytest.fixture(scope="session")
def model() -> MarkovModel:
    """The toy's logits in NumPy."""
    return MarkovModel(toys.table())


@pytest.fixture(scope="session")
def toy(model: MarkovModel, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LM]:
    """The toy without BOS and without marks of fill-in-the-middle."""
    yield from _load(tmp_path_factory.mktemp("toy"), model.table, toys.VOCABULARY)


@pytest.fixture(scope="session")
def beginning(model: MarkovModel, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LM]:
    """The toy whose tokenizer puts a BOS in front of text."""
    yield from _load(tmp_path_factory.mktemp("bos"), model.table, toys.BEGINNING)


@pytest.fixture(scope="session")
def infilling(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LM]:
    """The toy that can fill in the middle."""
    table = toys.infilling_table()
    yield from _load(tmp_path_factory.mktemp("fim"), table, toys.INFILLING)


@pytest.fixture(scope="session")
def everything(toy: LM) -> LM:
    """The toy, where a request may ask for the logprobs of the whole vocabulary."""
    limits = Limits(max_logprobs=toys.SIZE)
    return LM(toy.engine, toy.tokenizer, name=toy.name, limits=limits)


def _load(folder: Path, table: np.ndarray, vocabulary: ToyVocabulary) -> Iterator[LM]:
    write_toy(folder / "toy", table, vocabulary, context=toys.CONTEXT)
    with toolkit.load(folder / "toy", max_batch=toys.ROWS, strict=True) as lm:
        yield lm
