"""The suite's engines on a toy: the naive loop, GGUF files, the parts of a step, the GPU script."""

from __future__ import annotations

import json
import math
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import gguf
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from experiments.benchmarks import gguf_file, peers
from experiments.benchmarks.engines import MODULES, naive
from experiments.benchmarks.engines.device import config_of
from experiments.benchmarks.engines.parts import rows_of, variant_of
from experiments.benchmarks.engines.peak import peak
from experiments.benchmarks.machine import Company
from experiments.benchmarks.mixes import MIXES
from experiments.benchmarks.process import EngineFailed, Process
from experiments.benchmarks.scenarios import gpu_attention, gpu_decode
from experiments.benchmarks.settings import Settings
from experiments.benchmarks.shapes import LARGE, Shape
from tests.models import tiny
from toolkit.models import checkpoint
from toolkit.models.cache import KVCache
from toolkit.models.decoder import Decoder


@pytest.fixture
def workers_on_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers run on what the tests themselves run on."""
    monkeypatch.setenv("JAX_PLATFORMS", os.environ["JAX_PLATFORMS"])


@pytest.fixture
def toy(tmp_path: Path) -> Path:
    """A random Llama of two layers with a tokenizer's files."""
    folder = tiny.write_folder(tmp_path / "toy")
    tokenizer = {
        "model": {"vocab": {t: i for i, t in enumerate(tiny.TOKENS)}, "merges": tiny.MERGES},
        "added_tokens": [{"id": 0, "content": tiny.TOKENS[0], "special": True}],
        "pre_tokenizer": {"type": "Digits"},
    }
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer), encoding="utf-8")
    named = {"eos_token": tiny.TOKENS[0], "add_bos_token": False}
    (folder / "tokenizer_config.json").write_text(json.dumps(named), encoding="utf-8")
    return folder


@pytest.fixture
def lenient() -> Iterator[None]:
    """The peers' code is not held to the project's strictness about dtypes and ranks."""
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield


def choices(folder: Path, ids: list[int]) -> list[int]:
    """The token that the toolkit's network finds best after each beginning of `ids`."""
    decoder = checkpoint.load(folder)
    cache = KVCache.zeros(decoder.config, rows=1, slots=32, dtype=np.float32)
    hidden, _ = decoder(jnp.asarray([ids], jnp.int32), jnp.zeros(1, jnp.int32), cache)
    return np.argmax(decoder.logits(hidden[0]), axis=-1).tolist()


def test_the_naive_loop_writes_what_the_toolkit_writes(toy: Path, lenient: None):
    ids = [2, 3, 7, 8]
    loop = naive.Engine(folder=str(toy), gguf={}, threads=2, context=32)
    best = loop.decode(ids=ids, count=6, variant="float32", rows=2)
    asked = {"n": 3, "count": 2, "logprobs": 5, "temperature": 0.8, "top_p": 0.9}
    drawn = loop.sample(ids=ids, variant="float32", **asked)
    with jax.numpy_dtype_promotion("strict"), jax.numpy_rank_promotion("raise"):
        assert best["tokens"] == choices(toy, ids + best["tokens"])[len(ids) - 1 : -1]
    assert (best["made"], drawn["made"]) == (12, 6)
    assert 0 < best["first"] < best["seconds"]


def test_the_naive_draw_keeps_the_nucleus(lenient: None):
    logits = jnp.log(jnp.asarray([[0.5, 0.3, 0.15, 0.05, 0.0]] * 400))
    token, own, best, ids = naive.draw(logits, jax.random.key(0), 1.0, 0.7)
    # The smallest set with a mass of 0.7 is {0, 1}; 250 of 400 draws are 0, give or take 9.7.
    # Five deviations: false alarms 6e-7.
    counts = np.bincount(np.asarray(token), minlength=5)
    assert counts[2:].tolist() == [0, 0, 0] and abs(counts[0] - 250) < 49
    np.testing.assert_allclose(np.exp(own), np.asarray([0.5, 0.3])[np.asarray(token)], rtol=1e-5)
    np.testing.assert_allclose(np.exp(best[0]), [0.5, 0.3, 0.15, 0.05, 0.0], rtol=1e-5)
    assert ids[0].tolist() == [0, 1, 2, 3, 4]


def test_a_worker_says_why_it_cannot():
    with Process("memory", sys.executable, size=4096, threads=1) as worker:
        assert worker.ask("read", passes=1)["bandwidth"] > 0
        with pytest.raises(EngineFailed, match="fly"):
            worker.ask("fly")
        assert worker.ask("read", passes=1)["bandwidth"] > 0
    broken = Process("memory", sys.executable, threads=1)
    with pytest.raises(EngineFailed, match="size"), broken:
        pass


def test_heads_are_reordered_so_that_pairs_are_neighbours():
    rows = np.arange(8)[:, None]  # two heads of width 4
    assert gguf_file.neighbours(rows, 2)[:, 0].tolist() == [0, 2, 1, 3, 4, 6, 5, 7]


def test_gguf_files_hold_the_weights(toy: Path, tmp_path: Path):
    name = "token_embd.weight"
    exact = gguf_file.write_gguf(toy, tmp_path / "a.gguf", "F32")
    small = gguf_file.write_gguf(toy, tmp_path / "b.gguf", "Q8_0")
    wide, narrow = ({t.name: t for t in gguf.GGUFReader(p).tensors} for p in (exact, small))
    assert wide.keys() == narrow.keys()
    assert wide[name].tensor_type == gguf.GGMLQuantizationType.F32
    assert narrow[name].tensor_type == gguf.GGMLQuantizationType.Q8_0
    assert narrow["output_norm.weight"].tensor_type == gguf.GGMLQuantizationType.F32
    values = tiny.tensors()["model.embed_tokens.weight"]
    np.testing.assert_array_equal(wide[name].data, values)
    again = gguf.quants.dequantize(np.asarray(narrow[name].data), narrow[name].tensor_type)
    # A block of 32 has a step of its largest weight / 127, a float16; rounding is off by half.
    assert np.abs(again - values).max() <= np.abs(values).max() / 127 * 0.51
    before = small.stat().st_mtime_ns
    assert gguf_file.write_gguf(toy, small, "Q8_0").stat().st_mtime_ns == before


def test_rows_of_a_mix_have_seeds_of_their_own():
    rows = rows_of(MIXES["all of them"], 3)
    assert rows.seed[:, 1].tolist() == [0, 1, 2]
    assert rows.top.tolist() == [20] * 3
    assert (rows.bias_ids >= 0).sum() == 3 * 300
    assert np.asarray(rows.temperature).tolist() == pytest.approx([0.8] * 3)


def test_a_step_on_an_accelerator_holds_what_its_rows_need(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    greedy = variant_of(rows_of(MIXES["greedy"], 2))
    assert greedy.stages == {"temperature"}
    assert (greedy.top, greedy.details, greedy.guarded) == (0, False, False)
    dear = variant_of(rows_of(MIXES["all of them"], 2))
    assert dear.stages == {"logit_bias", "penalties", "temperature", "top_k", "top_p", "min_p"}
    assert dear.top == 20


def test_peak_sees_an_array_of_64_megabytes():
    with peak() as growth:
        np.ones(2**23)
        seen = growth()
    if seen is None:
        pytest.skip("this system does not say how much memory a process had at most")
    assert seen > 2**25


def test_own_work_is_no_company():
    company = Company()
    sum(i * i for i in range(2_000_000))
    others = company.cores()
    assert others is None or others >= 0


def test_peers_are_pinned():
    assert all("==" in requirement for requirement in peers.requirements())


@pytest.mark.slow
def test_the_gpu_script_runs_as_a_toy(tmp_path: Path, workers_on_cpu: None):
    settings = Settings(threads=2, tiny=True, size="check")
    python = {engine: sys.executable for engine in MODULES}
    found = gpu_decode.run(settings, None, python)
    page = found.save(tmp_path, {"engines": {}, **dict.fromkeys(MACHINE, 1)})
    names = {name for turns in found.rounds[0].values() for name in turns}
    assert names == {"toolkit, the engine"}
    assert [case for case in found.rounds[0]] == ["a toy, 1", "a toy, 4"]
    turn = found.rounds[0]["a toy, 4"]["toolkit, the engine"]
    assert turn["made"] == 4 * 8
    assert 0 < turn["products"] and 0 < turn["network"]
    assert set(turn["steps"]) >= {"greedy", "all of them"}
    assert "transformers, static cache, a toy" in found.left_out
    assert "| a toy, 4 | toolkit, the engine |" in page.read_text(encoding="utf-8")


@pytest.mark.slow
def test_the_gpu_script_of_attention_runs_as_a_toy(tmp_path: Path, workers_on_cpu: None):
    settings = Settings(threads=2, tiny=True, size="check")
    python = {engine: sys.executable for engine in MODULES}
    found = gpu_attention.run(settings, None, python)
    found.save(tmp_path, {"engines": {}, **dict.fromkeys(MACHINE, 1)})
    assert [row[0] for row in found.rows] == ["a toy: 1 x 8 of 16", "a toy: 2 x 1 of 16"]
    for turns in found.rounds[0].values():
        (turn,) = turns.values()
        assert turn["gap"] < 1e-5 and turn["taken"] == "products"
        assert min(turn["seconds"].values()) > 0


@pytest.mark.parametrize("shape", LARGE, ids=lambda shape: shape.name)
def test_large_shapes_have_the_weights_of_their_models(shape: Shape):
    published = {"Qwen3-0.6B": 0.596, "Llama-3.1-8B": 8.03, "Gemma-2-2B": 2.61, "Pythia-1.4B": 1.41}
    config = config_of(**shape.facts())
    decoder = nnx.eval_shape(lambda: Decoder(config, rngs=nnx.Rngs(0)))
    count = sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(nnx.state(decoder)))
    assert count == pytest.approx(1e9 * published[shape.name], rel=0.01)


MACHINE = ("processor", "cores", "memory_gib", "system", "python", "company")
