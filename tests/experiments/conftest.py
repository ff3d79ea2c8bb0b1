"""A toy model on disk and loaded, and a run of it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import toolkit
from tests.experiments import wrong_servers
from tests.experiments.runs import ROWS, write_model
from toolkit.completion.complete import LM
from toolkit.experiments.run import Run


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The toy's folder."""
    return write_model(tmp_path_factory.mktemp("experiments") / "toy")


@pytest.fixture(scope="session")
def toy(model: Path) -> Iterator[LM]:
    """The toy, loaded as `toolkit run` loads it."""
    with toolkit.load(model, max_batch=ROWS, strict=True) as lm:
        yield lm


@pytest.fixture(scope="session")
def recorded(toy: LM, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A finished run of twelve cells with two choices each."""
    return toolkit.sweep(
        toy,
        ["a", "R"],
        grid={"temperature": [0, 0.8]},
        seeds=3,
        n=2,
        out=tmp_path_factory.mktemp("runs") / "recorded",
        max_tokens=6,
        logprobs=2,
        details=True,
        metrics=["words", "repetition", "diversity", "agreement", "entropy", "kept_mass"],
        progress=False,
    )


@pytest.fixture(scope="session")
def printable(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LM]:
    """The toy with printable text, which probes and comparisons ask."""
    with wrong_servers.load(tmp_path_factory.mktemp("experiments") / "printable") as lm:
        yield lm
