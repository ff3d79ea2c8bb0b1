"""Exports: tables that read back, a page that needs nothing else."""

from __future__ import annotations

import builtins
import json
import shutil

import pandas as pd
import pytest

from tests.experiments.fakes import Fake
from toolkit.errors import InvalidRequest, RunError
from toolkit.experiments.declaration import Plot
from toolkit.experiments.export import export
from toolkit.experiments.figures import picture
from toolkit.experiments.run import open_run
from toolkit.experiments.sweep import sweep

PLOTS = [
    {"x": "param.temperature", "y": "metric.words", "title": "words $a$"},
    {"kind": "scatter", "x": "logprob_mean", "y": "metric.words", "by": "param.temperature"},
    {"kind": "calibration", "x": "metric.agreement", "y": "metric.agreement", "name": "same"},
]


@pytest.fixture
def run(recorded, tmp_path):
    return open_run(shutil.copytree(recorded.path, tmp_path / "copy"))


def test_csv_reads_back(run):
    folder = export(run, to="csv")
    assert sorted(path.name for path in folder.iterdir()) == [
        "candidates.csv",
        "requests.csv",
        "tokens.csv",
    ]
    tokens = pd.read_csv(folder / "tokens.csv", keep_default_na=False, na_values=[""])
    assert len(tokens) == len(run.tokens)
    assert tokens["logprob"].astype("float32").tolist() == run.tokens["logprob"].tolist()
    assert bytes.fromhex(str(tokens["token_bytes"][0])) == run.tokens["token_bytes"][0]


def test_parquet_is_the_frames(run, tmp_path):
    folder = export(run.path, to="parquet", out=tmp_path / "tables")
    pd.testing.assert_frame_equal(pd.read_parquet(folder / "tokens.parquet"), run.tokens)


def test_the_report_is_one_page_without_addresses(tmp_path):
    run = sweep(
        Fake(),
        ["<b>a</b>"],
        grid={"temperature": [0, 0.5, 1]},
        seeds=2,
        question="Does <i>heat</i> help?",
        metrics=["words", "agreement"],
        plots=PLOTS,
        out=tmp_path / "run",
        progress=False,
    )
    names = sorted(path.name for path in (run.path / "plots").iterdir())
    assert names == ["same.png", "words-over-logprob_mean.png", "words-over-temperature.png"]
    text = export(run).read_text(encoding="utf-8")
    assert text.count("data:image/png;base64,") == 3
    assert "&lt;b&gt;a&lt;/b&gt;" in text and "<b>a</b>" not in text
    assert "Does &lt;i&gt;heat&lt;/i&gt; help?" in text
    assert 'src="http' not in text and "<script" not in text and "<link" not in text


def test_unknown_columns_of_a_plot_are_named(run, tmp_path):
    target = Fake()
    with pytest.raises(RunError, match=r"`plots\[0\].x`: `heat` is no column of `requests`"):
        sweep(target, ["a"], plots=[{"x": "heat"}], out=tmp_path, progress=False)
    assert target.asked == []
    with pytest.raises(InvalidRequest, match=r"`heat` is no column of this run's"):
        picture(run, Plot(x="heat"))


def test_unknown_forms_are_refused(run):
    with pytest.raises(RunError, match="Use one of csv, parquet, html, mlflow"):
        export(run, to="xls")


def test_mlflow_is_optional(run, monkeypatch):
    imported = builtins.__import__

    def without(name, *rest):
        if name == "mlflow":
            raise ImportError(name)
        return imported(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(RunError, match=r"pip install .*\[mlflow\]"):
        export(run, to="mlflow")


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # MLflow's own, of its database
def test_mlflow_gets_parameters_means_and_files(run, tmp_path, monkeypatch):
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.chdir(tmp_path)  # where MLflow keeps files that a database names
    made = export(run, to="mlflow", out=f"sqlite:///{tmp_path}/mlflow.db")
    found = mlflow.get_run(made)
    assert found.data.params["max_tokens"] == "6"
    assert json.loads(found.data.params["grid.temperature"]) == [0, 0.8]
    last = run.summary()["logprob_mean"].iloc[-1]
    assert found.data.metrics["logprob_mean"] == pytest.approx(last)
