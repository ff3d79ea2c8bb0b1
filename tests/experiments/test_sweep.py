"""`sweep`: the same as a declaration, in one call."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import toolkit
from tests.experiments.fakes import Fake
from toolkit.errors import InvalidRequest, RunError


def test_arrays_and_series_are_lists(tmp_path):
    run = toolkit.sweep(
        Fake(),
        pd.Series(["a", "b"]),
        grid={"temperature": np.linspace(0, 1, 3)},
        zip={"top_k": np.array([1, 2]), "top_p": (0.5, np.float64(1.0))},
        seeds=range(2),
        max_tokens=np.int64(4),
        out=tmp_path,
        progress=False,
    )
    assert len(run.requests) == 2 * 3 * 2 * 2
    assert toolkit.open_run(tmp_path).config.grid == {"temperature": [0.0, 0.5, 1.0]}


def test_scalars_of_numpy_are_numbers(tmp_path):
    run = toolkit.sweep(
        Fake(),
        np.array(["a"]),
        seeds=np.int64(2),
        n=np.int64(2),
        extra={"slots": np.int64(3)},
        out=tmp_path,
        progress=False,
    )
    assert run.requests["seed"].tolist() == [0, 0, 1, 1]
    assert toolkit.open_run(tmp_path).config.extra == {"slots": 3}


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"grid": {"temperature": 0}}, "`grid.temperature` must be a valid list, got 0. Write a"),
        ({"grid": {"temperature": np.float64(0)}}, "`grid.temperature` must be a valid list"),
        ({"grid": {"stop": "abc"}}, "`grid.stop` must be a valid list, got 'abc'. Write a list"),
        ({"grid": {"stop": {"a", "b"}}}, "`grid.stop` must be a valid list, got {"),
        ({"zip": {"stop": "abc"}}, "`zip.stop` must be a valid list, got 'abc'"),
        ({"grid": ["temperature"]}, "`grid` must be a valid dictionary"),
        ({"prompts": {"a", "b"}}, "`prompts` must be a valid list"),
        ({"prompts": {"a": 1}}, "`prompts.a` is not a key"),
        ({"seeds": {1, 2}}, "`seeds` must be a valid list"),
        ({"metrics": "words"}, "`metrics` must be a valid list"),
        ({"extra": {"x": float("nan")}}, "sweep: `extra.x`: nan is not finite"),
        ({"n": 3, "best_of": 2}, "sweep: `parameters.best_of`: the setting"),
    ],
)
def test_what_cannot_be_asked_is_refused(tmp_path, fields, said):
    with pytest.raises(RunError) as caught:
        toolkit.sweep(Fake(), **{"prompts": ["a"], "out": tmp_path, **fields})
    assert said in caught.value.message
    assert list(tmp_path.iterdir()) == []


def test_token_ids_are_one_prompt(tmp_path):
    target = Fake()
    toolkit.sweep(target, [1, 2, 3], out=tmp_path, progress=False)
    assert target.asked[0]["prompt"] == [1, 2, 3]


def test_default_folder_is_found_again(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    first = toolkit.sweep(Fake(), ["a"], seeds=2, progress=False)
    second = toolkit.sweep(Fake(), ["a"], seeds=2, progress=False)
    other = toolkit.sweep(Fake(), ["a"], seeds=3, progress=False)
    assert first.path == second.path != other.path
    assert first.path.parent.name == "runs" and "_sweep_" in first.path.name


def test_several_targets_stand_side_by_side(tmp_path):
    one, other = Fake(), Fake()
    other.name, other.identity = "other", lambda: {"kind": "fake", "url": "http://other/v1"}
    run = toolkit.sweep([one, other], ["a", "b"], seeds=2, out=tmp_path, progress=False)
    assert run.requests["target"].tolist() == ["fake"] * 4 + ["other"] * 4
    assert run.summary()["target"].tolist() == ["fake", "other"]


def test_many_prompts_stand_in_a_file(tmp_path):
    prompts = [f"p{i}" for i in range(60)]
    run = toolkit.sweep(Fake(), prompts, out=tmp_path, progress=False)
    assert (tmp_path / "prompts.jsonl").exists()
    assert run.requests["prompt"].tolist() == prompts
    target = Fake()
    assert toolkit.sweep(target, prompts, out=tmp_path, progress=False).done
    assert target.asked == []


def test_extra_fields_go_to_servers_only(tmp_path, toy):
    target = Fake()
    toolkit.sweep(target, ["a"], extra={"cache_prompt": True}, out=tmp_path / "a", progress=False)
    assert target.asked[0]["cache_prompt"] is True
    with pytest.raises(RunError, match="`extra` is for servers"):
        toolkit.sweep(toy, ["a"], extra={"cache_prompt": True}, out=tmp_path / "b")


def test_what_is_no_target_is_refused(tmp_path):
    with pytest.raises(InvalidRequest, match="`who` must be a loaded model or a target, got 3"):
        toolkit.sweep(3, ["a"], out=tmp_path)  # type: ignore[arg-type]


def test_misspelled_parameters_are_named(tmp_path):
    with pytest.raises(RunError, match=r"`temprature` is not a parameter. Did you mean `temp"):
        toolkit.sweep(Fake(), ["a"], temprature=0.5, out=tmp_path)


def test_one_model_under_two_names_is_refused(tmp_path):
    one, other = Fake(), Fake()
    other.name = "other"
    with pytest.raises(RunError, match="'fake' and 'other' are the same"):
        toolkit.sweep([one, other], ["a"], out=tmp_path, progress=False)
