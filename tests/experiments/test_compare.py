"""Comparisons: every fault is named by its cause, and two equal servers are said to be equal."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import toolkit
from tests.experiments import wrong_servers
from tests.experiments.wrong_servers import PROMPTS, WRONG
from toolkit.completion.complete import LM
from toolkit.errors import InvalidRequest, RunError
from toolkit.experiments import faults
from toolkit.experiments.compare import Comparison, compare
from toolkit.experiments.target import Remote
from toolkit.server import Server

SMALL: dict[str, Any] = {"samples": 8, "max_tokens": 12, "sample_tokens": 6}


@pytest.fixture(scope="module")
def toy(printable: LM) -> LM:
    return printable


@pytest.fixture(scope="module")
def server(toy: LM) -> Iterator[Server]:
    with toolkit.serve(toy) as running:
        yield running


@pytest.fixture(scope="module")
def equal(toy: LM, server: Server) -> Comparison:
    return compare(toy, server, PROMPTS, metrics={"commas": commas}, **SMALL)


def commas(prompt: str, text: str) -> float:
    return text.count(",")


# --- nothing wrong --------------------------------------------------------------------------------


def test_an_engine_and_its_server_are_equal_to_the_last_bit(equal: Comparison):
    assert (equal.same, equal.causes) == (True, [])
    assert equal.verdict.startswith("No difference between toy and 127.0.0.1:")
    assert "log-probabilities equal to the last bit" in equal.verdict
    assert (equal.tokens["difference"] == 0).all()
    assert equal.tokens["same_best"].all()
    assert (equal.tokens["divergence"] < 1e-12).all()
    assert equal.greedy["same"].all()
    assert not equal.table["differs"].fillna(False).any()


def test_scores_are_those_of_the_table(equal: Comparison, toy: LM):
    """Token i's log-probability is its row's log_softmax; the first of a text has none."""
    import numpy as np

    table = wrong_servers.table(1).astype(np.float64)
    row = equal.tokens.iloc[0]
    assert (row["prompt_index"], row["position"]) == (0, 1)
    logits = table[ord(PROMPTS[0][0])]
    expected = logits[ord(PROMPTS[0][1])] - np.log(np.exp(logits).sum())
    assert row["logprob_a"] == pytest.approx(expected, abs=1e-5)


def test_the_strict_route_is_equal_too(toy: LM, server: Server):
    url = f"{server.url}/v1/openai/v1"
    with Remote(url) as strict:
        found = compare(toy, strict, PROMPTS[:3], **SMALL)
    assert found.same, found.verdict
    assert len(found.tokens)


# --- eight wrong servers --------------------------------------------------------------------------


@pytest.mark.parametrize("cause", WRONG)
def test_each_fault_is_named(toy: LM, cause: str):
    found = compare(toy, WRONG[cause](toy), PROMPTS, **SMALL)
    assert found.causes[0] == cause, found.verdict
    others = {"scaled logprobs": ["truncated logprobs"]}.get(cause, [])
    assert set(found.causes[1:]) <= {*others, "sampling"}, found.verdict


@pytest.mark.slow
def test_quantised_weights_are_named(toy: LM):
    with faults.quantised_weights(toy, bits=4) as wrong:
        found = compare(toy, wrong, PROMPTS, **SMALL)
    assert found.causes[0] == "quantised weights", found.verdict
    assert 0.01 < found.tokens["difference"].abs().median() < 1


@pytest.mark.slow
def test_another_model_is_named(toy: LM, tmp_path: Path):
    with wrong_servers.load(tmp_path / "other", seed=2) as other:
        found = compare(toy, other, PROMPTS, **SMALL)
    assert found.causes[0] == "other model", found.verdict
    assert "sampling" in found.causes


@pytest.mark.slow
@pytest.mark.parametrize("cause", WRONG)
def test_each_fault_is_named_over_http(toy: LM, cause: str):
    with wrong_servers.served(WRONG[cause](toy)) as wrong:
        found = compare(toy, wrong, PROMPTS[:3], **SMALL)
    assert found.causes[0] == cause, found.verdict


def test_a_hidden_bos_is_found_by_counts(toy: LM):
    hidden = faults.bos_added(toy, tells=False)
    found = compare(toy, hidden, PROMPTS[:3], probe=False, **SMALL)
    assert found.causes[0] == "bos"
    assert "reads 1 token more" in found.verdict


# --- two settings ---------------------------------------------------------------------------------


def test_two_settings_of_one_model(toy: LM):
    found = compare(
        toy,
        toy,
        PROMPTS,
        parameters={"temperature": 1.0},
        parameters_b={"temperature": 0.4},
        samples=24,
        probe=False,
    )
    assert found.causes == ["settings", "sampling"]
    assert "temperature (1.0 and 0.4)" in found.verdict
    row = found.tests.loc[found.tests["test"] == "kernel"].iloc[0]
    assert row["p_corrected"] <= 0.001
    assert row["effect"] > 0.02


def test_the_same_settings_twice_are_equal(toy: LM):
    found = compare(toy, toy, PROMPTS[:3], parameters={"temperature": 0.7}, probe=False, **SMALL)
    assert found.same
    assert list(found.tests["setting"].unique()) == ["as given"]


# --- how it shows itself --------------------------------------------------------------------------


def test_metrics_are_paired_by_prompt(equal: Comparison):
    row = equal.metrics.iloc[0]
    assert (row["metric"], row["pairs"]) == ("commas", len(PROMPTS))
    assert row["low"] <= row["mean"] <= row["high"]


def test_frames_have_their_columns(equal: Comparison):
    assert list(equal.table.columns) == ["stage", "seen", "differs"]
    assert set(equal.tests["test"]) == {"kernel", "first tokens"}
    assert len(equal.tests) == 3 * (1 + len(PROMPTS))
    assert {"agreed", "gap", "text_a", "text_b"} <= set(equal.greedy.columns)


def test_pictures_and_pages(equal: Comparison, tmp_path: Path):
    from toolkit.experiments.compare import report

    for made in (equal.plot(), equal.plot_positions(), equal.plot_text(1), equal.plot_tests()):
        made.savefig(tmp_path / "figure.png")
        assert made.axes
    assert equal._repr_html_().count("<tr>") == len(equal.table)
    page = report.page(equal)
    assert page.startswith("<!doctype html>")
    assert page.count("data:image/png;base64,") == 3
    assert "✓ tokenisation" in str(equal)


def test_hostile_names_are_escaped(toy: LM):
    found = compare(
        toy, toy, ["ab"], names=("<b>", "<script>"), probe=False, samples=2, sample_tokens=1
    )
    assert "<script>" not in found._repr_html_()


# --- what cannot be compared ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"prompts": []}, "`prompts` is empty"),
        ({"prompts": ["a", 3]}, "which is no text"),
        ({"samples": 1}, "`samples` must be a whole number, 2 or more"),
        ({"max_tokens": 0}, "`max_tokens` must be"),
        ({"alpha": 1}, "`alpha` must be between 0 and 1"),
    ],
)
def test_arguments_out_of_range_are_refused(toy: LM, wrong: dict[str, Any], words: str):
    with pytest.raises(InvalidRequest, match=words):
        compare(toy, toy, **{"prompts": ["a"], **wrong})


def test_a_folder_without_a_run_and_a_run_with_a_model_are_refused(toy: LM, tmp_path: Path):
    with pytest.raises(RunError):
        compare(tmp_path, tmp_path)


def test_names_of_the_room():
    assert toolkit.compare is compare
    assert toolkit.Remote is Remote
