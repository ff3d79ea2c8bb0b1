"""Two recorded runs side by side: the same, another model, another setting."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import toolkit
from tests.experiments import wrong_servers
from toolkit.completion.complete import LM
from toolkit.errors import InvalidRequest, RunError
from toolkit.experiments.run import Run

PROMPTS = ["a cab on", "deck, g", "he ha"]
Recorder = Callable[..., Run]


@pytest.fixture(scope="module")
def record(tmp_path_factory: pytest.TempPathFactory) -> Recorder:
    """Records a run of three prompts, greedy and drawn twelve times."""

    def made(lm: LM, name: str, **changes: Any) -> Run:
        fields = {
            "grid": {"temperature": [0, 1.0]},
            "seeds": 2,
            "n": 6,
            "max_tokens": 6,
            "logprobs": 2,
            "metrics": ["words"],
            "name": name,
        }
        folder = tmp_path_factory.mktemp("compared") / name
        return toolkit.sweep(lm, PROMPTS, out=folder, progress=False, **{**fields, **changes})

    return made


@pytest.fixture(scope="module")
def first(printable: LM, record: Recorder) -> Run:
    return record(printable, "first")


def test_a_run_equals_its_repetition(first: Run, printable: LM, record: Recorder):
    found = toolkit.compare(first, record(printable, "second", seeds=[2, 3]))
    # Other seeds draw other texts from the same distribution; greedy cells do not depend on them.
    assert found.same, found.verdict
    note = "3 cells are the same in both, 6 but for the seed"
    assert found.evidence.notes == (note,)


def test_the_same_seeds_give_the_same_tokens(first: Run, printable: LM, record: Recorder):
    found = toolkit.compare(first.path, record(printable, "third").path)
    assert found.same, found.verdict
    assert len(found.greedy) == 3
    assert found.greedy["same"].all()
    assert (found.tokens["difference"] == 0).all()
    assert set(found.metrics["metric"]) == {"words", "logprob_mean", "completion_tokens"}
    assert (found.metrics["mean"] == 0).all()
    assert found.evidence.timing is not None


def test_another_model_is_named(first: Run, record: Recorder, tmp_path: Path):
    with wrong_servers.load(tmp_path / "other", seed=2) as other:
        found = toolkit.compare(first, record(other, "other"))
    assert found.causes[0] == "other model", found.verdict
    assert not found.greedy["same"].all()


def test_another_setting_is_named(printable: LM, record: Recorder):
    plain, sharp = (
        record(printable, f"at{t}", grid={"temperature": [t]}, seeds=8) for t in (1.0, 0.2)
    )
    found = toolkit.compare(plain, sharp)
    assert found.causes[0] == "settings"
    assert "temperature (1.0 and 0.2)" in found.verdict
    assert "sampling" in found.causes


def test_runs_without_a_common_prompt_and_a_run_with_a_model_are_refused(
    first: Run, printable: LM, record: Recorder
):
    other = toolkit.sweep(
        printable, ["zzz"], out=first.path.parent / "none", progress=False, max_tokens=1
    )
    with pytest.raises(RunError, match="no prompt with the same parameters"):
        toolkit.compare(first, other)
    with pytest.raises(InvalidRequest, match="must both be runs"):
        toolkit.compare(first, printable)
