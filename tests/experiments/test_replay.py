"""Replay: bitwise in a new process, and every deliberate change by its name."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import toolkit
from tests.contract import toys
from tests.experiments.fakes import Fake
from tests.experiments.runs import ROWS
from tests.oracle.toy import write_toy
from toolkit.errors import RunError
from toolkit.experiments import store
from toolkit.experiments.replay import replay
from toolkit.experiments.sweep import sweep


@pytest.fixture
def copy(recorded, tmp_path):
    return shutil.copytree(recorded.path, tmp_path / "copy")


def test_bitwise(toy, recorded):
    done = replay(recorded, toy, progress=False)
    assert done.bitwise and len(done.results) == 12
    assert done.verdict() == "12 cells asked again: 12 bitwise."
    assert done.causes == []
    assert set(done.frame["verdict"]) == {"bitwise"}


def test_a_sample_is_always_the_same(toy, recorded):
    done = replay(recorded.path, toy, sample=5, progress=False)
    ids = [item.cell_id for item in done.results]
    assert ids == sorted(recorded.requests["cell_id"].unique())[:5]


def test_another_temperature_is_named_with_the_step_where_it_parts(toy, recorded):
    done = replay(recorded, toy, changes={"temperature": 2.0}, progress=False)
    assert "`temperature` is 2.0 now" in done.causes
    parted = [item for item in done.results if item.verdict == "diverged"]
    assert parted and "diverged at step" in str(parted[0])
    item = parted[0]
    assert item.p_before is not None and item.p_now is not None and item.gap is not None
    assert item.gap == pytest.approx(abs(item.p_before - item.p_now))
    rows = recorded.tokens[recorded.tokens["cell_id"] == item.cell_id]
    row = rows[(rows["choice_index"] == item.choice_index) & (rows["step"] == item.step)].iloc[0]
    assert (item.before, item.p_before) == (row["token"], pytest.approx(np.exp(row["logprob"])))


def test_an_edited_request_is_named(toy, copy):
    path = copy / store.REQUESTS
    text = path.read_text()
    path.write_text(text.replace('"temperature":0.8', '"temperature":0.9'))
    done = replay(copy, toy, progress=False)
    assert "`temperature` was 0.8 when it was asked, requests.jsonl has 0.9" in done.causes
    assert not done.bitwise


def test_an_edited_prompt_is_named(toy, copy):
    path = copy / store.REQUESTS
    path.write_text(path.read_text().replace('"prompt":"a"', '"prompt":"b"'))
    done = replay(copy, toy, progress=False)
    assert "a prompt in requests.jsonl is not the one that was asked" in done.causes


def test_one_changed_weight_is_named(model, recorded, tmp_path):
    changed = shutil.copytree(model, tmp_path / "toy")
    tensors = load_file(changed / "model.safetensors")
    tensors["lm_head.weight"][3, 5] += 1e-3
    save_file(tensors, changed / "model.safetensors", metadata={"format": "pt"})
    with toolkit.load(changed, max_batch=ROWS, strict=True) as lm:
        done = replay(recorded, lm, sample=2, progress=False)
    assert done.causes == ["the weights have changed"]


def test_another_tokenizer_is_named(recorded, tmp_path):
    write_toy(tmp_path / "toy", toys.table(), toys.INFILLING, context=toys.CONTEXT)
    with toolkit.load(tmp_path / "toy", max_batch=ROWS, strict=True) as lm:
        done = replay(recorded, lm, sample=2, progress=False)
    assert "the tokenizer has changed" in done.causes


def test_another_sampler_is_named(toy, recorded, copy):
    path = copy / store.MANIFEST
    manifest = json.loads(path.read_text())
    (target,) = manifest["targets"].values()
    target["sampler"] = "0"
    path.write_text(json.dumps(manifest))
    assert "the sampler has changed" in replay(copy, toy, sample=1, progress=False).causes


def test_without_strict_it_says_so(model, recorded):
    with toolkit.load(model, max_batch=ROWS) as lm:
        done = replay(recorded, lm, sample=1, progress=False)
    assert "the model is loaded without `strict=True`, so neighbours change bits" in done.causes


def test_unseeded_cells_are_asked_with_the_seed_that_was_drawn(toy, tmp_path):
    run = sweep(toy, "a", seeds=None, out=tmp_path, max_tokens=8, progress=False)
    assert replay(run, toy, progress=False).bitwise


def test_servers_are_compared_by_what_their_json_tells(tmp_path):
    run = sweep(Fake(), ["a"], seeds=3, out=tmp_path, progress=False)
    assert replay(run, Fake(), progress=False).bitwise
    other = Fake()
    complete = other.complete

    def moved(fields):
        answer = complete(fields)
        for choice in answer.body["choices"]:
            choice["logprobs"]["token_logprobs"][1] -= 0.25
        return answer

    other.complete = moved
    done = replay(run, other, progress=False)
    assert {item.verdict for item in done.results} == {"same tokens"}
    assert done.results[0].largest == pytest.approx(0.25)


def test_a_run_without_answers_is_refused(copy, toy):
    (copy / store.RESPONSES).unlink()
    (copy / store.DONE).unlink()
    with pytest.raises(RunError, match="holds no answer yet"):
        replay(copy, toy)
