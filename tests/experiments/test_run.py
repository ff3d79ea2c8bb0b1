"""Recorded runs: frames that hold what the records held, and a repr that says what is missing."""

from __future__ import annotations

import math
import shutil

import pandas as pd
import pytest

import toolkit
from tests.experiments.runs import assert_equal
from toolkit.completion.response import strict
from toolkit.errors import InvalidRequest, RunError
from toolkit.experiments import store


@pytest.fixture
def copy(recorded, tmp_path):
    return shutil.copytree(recorded.path, tmp_path / "copy")


def test_frames_are_those_of_the_answers_themselves(toy, recorded):
    rows = recorded.requests
    row = rows[(rows["param.temperature"] == 0.8) & (rows["seed"] == 1)].iloc[0]
    answer = toy.complete("a", temperature=0.8, seed=1, n=2, max_tokens=6, logprobs=2, details=True)
    for name in ("tokens", "candidates"):
        fresh = getattr(toolkit.frames, name)(answer)
        kept = getattr(recorded, name)
        kept = kept[kept["cell_id"] == row["cell_id"]].reset_index(drop=True)
        pd.testing.assert_frame_equal(
            kept.drop(columns=["cell_id", "request_id"]),
            fresh.drop(columns="request_id"),
            check_exact=True,
        )
    assert rows["text"].iloc[row.name] == answer["choices"][0]["text"]


def test_requests_has_a_row_a_choice(recorded):
    frame = recorded.requests
    assert len(frame) == 24 and not frame.duplicated(["cell_id", "choice_index"]).any()
    assert frame["prompt"].tolist() == ["a"] * 12 + ["R"] * 12
    assert frame["target"].unique().tolist() == list(recorded.manifest["targets"])
    assert frame["setting"].tolist() == ([0] * 6 + [1] * 6) * 2
    mean = frame["logprob_sum"] / frame["completion_tokens"].astype(float)
    assert (frame["logprob_mean"] - mean).abs().max() < 1e-12
    assert (frame["perplexity"] - (-frame["logprob_mean"]).map(math.exp)).abs().max() < 1e-9
    assert (frame["seconds"] > 0).all() and (frame["tokens_per_second"].dropna() > 0).all()


def test_frames_join_and_plot_as_those_of_one_answer(recorded):
    joined = toolkit.frames.add_requests(recorded.tokens, recorded.requests, "param.temperature")
    assert len(joined) == len(recorded.tokens) and joined["param.temperature"].notna().all()
    assert "surprisal_bits" in toolkit.frames.add_metrics(recorded.tokens)
    assert toolkit.plots.sweep(joined) is not None


def test_metrics_are_numbers_a_person_can_check(recorded):
    frame = recorded.requests
    texts = frame["text"].tolist()
    assert frame["metric.words"].tolist() == [len(text.split()) for text in texts]
    greedy = frame[frame["param.temperature"] == 0]
    assert (greedy["metric.agreement"] == 1.0).all()
    first = recorded.tokens[recorded.tokens["cell_id"] == frame["cell_id"][0]]
    first = first[first["choice_index"] == 0]
    assert frame["metric.entropy"][0] == pytest.approx(first["entropy"].mean(), rel=1e-6)


def test_summary_has_a_row_a_setting_and_errors_over_prompts(recorded):
    table = recorded.summary()
    assert table["param.temperature"].tolist() == [0, 0.8]
    assert table["choices"].tolist() == [12, 12]
    frame = recorded.requests
    by_prompt = frame[frame["param.temperature"] == 0.8].groupby("prompt_index")["logprob_mean"]
    means = by_prompt.mean()
    assert table["logprob_mean"][1] == pytest.approx(means.mean())
    assert table["logprob_mean.error"][1] == pytest.approx(abs(means[0] - means[1]) / 2)


def test_summary_refuses_unknown_columns(recorded):
    with pytest.raises(InvalidRequest, match=r"`param.heat` is no column.*param.temperature"):
        recorded.summary(by="param.heat")


def test_answers_are_whole_records(toy, recorded):
    answers = list(recorded.answers())
    assert len(answers) == 12
    body = strict(answers[0])
    same = toy.complete("a", temperature=0, seed=0, n=2, max_tokens=6, logprobs=2)
    assert body["choices"] == same["choices"]


def test_lost_frames_are_made_again(recorded, copy):
    for path in copy.glob("*.parquet"):
        path.unlink()
    again = toolkit.open_run(copy)
    assert_equal(again, recorded)
    assert (copy / "tokens.parquet").exists()


def test_an_unfinished_run_shows_what_there_is(recorded, copy):
    for path in (copy / store.DONE, *copy.glob("*.parquet")):
        path.unlink()
    lines = (copy / store.RESPONSES).read_bytes().splitlines(keepends=True)
    (copy / store.RESPONSES).write_bytes(b"".join(lines[:5]) + lines[5][:40])
    partial = toolkit.open_run(copy)
    assert (partial.answered, partial.planned, len(partial.missing)) == (5, 12, 7)
    assert "not finished" in repr(partial) and "5 of 12 answered" in repr(partial)
    assert f"7 cells. Go on with: toolkit run {copy}" in repr(partial)
    assert "7 cells" in partial._repr_html_()
    assert partial.requests["cell_id"].nunique() == 5
    assert not list(copy.glob("*.parquet"))


def test_an_empty_run_has_empty_frames(recorded, copy):
    for path in (copy / store.DONE, copy / store.RESPONSES, *copy.glob("*.parquet")):
        path.unlink()
    empty = toolkit.open_run(copy)
    assert empty.requests.empty and empty.tokens.empty and empty.candidates.empty
    assert list(empty.tokens.columns) == list(recorded.tokens.columns)
    assert "metric.words" in empty.requests.columns


def test_rejected_candidates_stand_apart(toy, tmp_path):
    run = toolkit.sweep(toy, "a", best_of=3, out=tmp_path, max_tokens=4, logprobs=0, progress=False)
    assert len(run.requests) == 1 and len(run.rejected) == 2
    assert (run.rejected["logprob_mean"] <= run.requests["logprob_mean"][0]).all()


def test_no_run_folder_is_named(tmp_path):
    with pytest.raises(RunError, match="is no run folder"):
        toolkit.open_run(tmp_path)
    with pytest.raises(RunError, match="is no run folder"):
        toolkit.open_run(tmp_path / "nothing")


def test_another_format_is_refused(copy):
    path = copy / store.MANIFEST
    path.write_text(path.read_text().replace('"format": 1', '"format": 9'))
    with pytest.raises(RunError, match="format 9, and 1 is read"):
        toolkit.open_run(copy)


def test_the_manifest_names_what_decides(recorded):
    (target,) = recorded.manifest["targets"].values()
    assert len(target["weights"]) == len(target["tokenizer"]) == 32
    (session,) = recorded.manifest["sessions"]
    assert session["versions"]["toolkit"] == toolkit.__version__
    assert {"jax", "jaxlib", "numpy"} <= session["versions"].keys()
    assert session["answered"] == 12 and session["ended"] is not None
    assert recorded.manifest["devices"]["count"] >= 1
