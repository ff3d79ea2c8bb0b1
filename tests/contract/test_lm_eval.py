"""lm-evaluation-harness, unchanged: through our server it finds what its own backend finds.

Both read the same weights. The tasks lie in `lm_eval/`; the harness runs as its users run it, as a
command, and its results are read from the files that it writes.
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import toolkit

pytestmark = [
    pytest.mark.parity,
    pytest.mark.timeout(3600),
    pytest.mark.skipif(
        importlib.util.find_spec("lm_eval") is None, reason="`make test-parity` installs it"
    ),
]

TASKS = Path(__file__).with_name("lm_eval")
NAMES = ("toolkit_answers", "toolkit_choice", "toolkit_pages", "toolkit_words")
WINDOW = 256
"""Tokens that a model sees at once: one of the pages takes two windows."""
ACCURACIES = {
    "toolkit_answers": ("exact_match",),
    "toolkit_choice": ("acc", "acc_norm"),
    "toolkit_words": ("acc",),
}
PERPLEXITIES = {
    "toolkit_pages": ("word_perplexity", "byte_perplexity", "bits_per_byte"),
    "toolkit_words": ("perplexity",),
}
WAYS = {
    "one request at a time": {"num_concurrent": 1},
    "sixteen requests at a time": {"num_concurrent": 16},
    "ragged batches, tokenizer from a folder": {"num_concurrent": 1, "batch": 5},
}

Evaluate = Callable[..., tuple[dict[str, Any], dict[str, list[Any]]]]


@pytest.fixture(scope="module")
def evaluate(tmp_path_factory: pytest.TempPathFactory) -> Evaluate:
    """Runs the command; the metrics by task, and what was answered to each document."""

    def run(kind: str, /, batch: int = 1, **arguments: Any) -> tuple[dict, dict]:
        out = tmp_path_factory.mktemp("evaluated")
        given = ",".join(f"{name}={value}" for name, value in arguments.items())
        command = [sys.executable, "-m", "lm_eval", "run", "--model", kind, "--model_args", given]
        command += ["--tasks", ",".join(NAMES), "--include_path", ".", "--device", "cpu"]
        command += ["--batch_size", str(batch), "--output_path", str(out), "--log_samples"]
        offline = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "HF_HOME": str(out)}
        ran = subprocess.run(
            command, cwd=TASKS, env=os.environ | offline, capture_output=True, text=True
        )
        assert ran.returncode == 0, ran.stderr[-3000:]
        (results,) = out.rglob("results_*.json")
        answers = {}
        for name in NAMES:
            (samples,) = out.rglob(f"samples_{name}_*.jsonl")
            lines = map(json.loads, samples.read_text(encoding="utf-8").splitlines())
            found = sorted(lines, key=lambda sample: sample["doc_id"])
            answers[name] = [sample["filtered_resps"] for sample in found]
        return json.loads(results.read_text(encoding="utf-8"))["results"], answers

    return run


@pytest.fixture(scope="module")
def theirs(evaluate: Evaluate, folder: Path) -> tuple[dict[str, Any], dict[str, list[Any]]]:
    """What the harness finds with PyTorch."""
    return evaluate("hf", batch=8, pretrained=folder, dtype="float32", max_length=WINDOW)


@pytest.mark.parametrize("way", WAYS)
def test_same_numbers_as_its_own_backend(
    evaluate: Evaluate, theirs: tuple[dict, dict], lm: toolkit.LM, folder: Path, way: str
):
    tokenizer = (
        {"tokenizer_backend": "huggingface", "tokenizer": folder}
        if "folder" in way
        else {"tokenizer_backend": "remote"}
    )
    with toolkit.serve(lm) as server:
        metrics, answers = evaluate(
            "local-completions",
            model=lm.name,
            base_url=f"{server.url}/v1/completions",
            max_length=WINDOW + 2,  # the harness's own count of the same windows
            **tokenizer,
            **WAYS[way],
        )
    expected, expected_answers = theirs
    for task, names in ACCURACIES.items():
        for name in names:
            assert metrics[task][f"{name},none"] == expected[task][f"{name},none"], (task, name)
    for task, names in PERPLEXITIES.items():
        for name in names:
            ours = metrics[task][f"{name},none"]
            assert ours == pytest.approx(expected[task][f"{name},none"], rel=1e-3), (task, name)
    assert answers["toolkit_answers"] == expected_answers["toolkit_answers"]
    for task in ("toolkit_choice", "toolkit_words"):
        for ours, others in zip(answers[task], expected_answers[task], strict=True):
            check_likelihoods(ours, others)
    for ours, others in zip(
        answers["toolkit_pages"], expected_answers["toolkit_pages"], strict=True
    ):
        assert float(ours[0]) == pytest.approx(float(others[0]), abs=5e-3)


def check_likelihoods(ours: list[Any], others: list[Any]) -> None:
    """Sums of log-probabilities, and whether each token was the most probable one."""
    for (ours_sum, ours_greedy), (sum_, greedy) in zip(ours, others, strict=True):
        assert float(ours_sum) == pytest.approx(float(sum_), abs=1e-3)
        assert ours_greedy == greedy


def test_the_tasks_tell_models_apart(theirs: tuple[dict[str, Any], Any]):
    """Neither all right nor at chance, where a server without prompt log-probabilities ends up."""
    metrics, _ = theirs
    assert 0.25 < metrics["toolkit_choice"]["acc,none"] < 1
    assert 0.25 < metrics["toolkit_words"]["acc,none"] < 1
    assert 0 < metrics["toolkit_answers"]["exact_match,none"] < 1
