"""The network, against logits that Hugging Face computed (tests/golden/make_llama.py)."""

from __future__ import annotations

import functools
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from safetensors.numpy import save_file

from toolkit.models import KVCache, load
from toolkit.models.compiler import jit

GOLDEN = Path(__file__).parents[1] / "golden"
CASES = [
    ("full", 1),
    ("full", 7),
    ("grouped", 1),
    ("grouped", 7),
    ("grouped", 600),
    ("single", 1),
    ("single", 7),
]


@functools.cache
def golden(name):
    with np.load(GOLDEN / f"llama_{name}.npz") as arrays:
        return dict(arrays)


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Name -> (configuration, jitted `run(tokens, start, cache) -> (logits, cache)`)."""

    def build(name):
        folder = tmp_path_factory.mktemp(name)
        arrays = golden(name)
        (folder / "config.json").write_text(str(arrays["config"]))
        weights = {
            n.removeprefix("weights/"): a for n, a in arrays.items() if n.startswith("weights/")
        }
        save_file(weights, folder / "model.safetensors")
        decoder = load(folder)
        graph, state = nnx.split(decoder)

        @jit
        def run(tokens, start, cache):
            model = nnx.merge(graph, state)
            hidden, cache = model(tokens, start, cache)
            return model.logits(hidden), cache

        return decoder.config, run

    return {name: build(name) for name in ("full", "grouped", "single")}


def empty(config, rows, slots):
    return KVCache.zeros(config, rows=rows, slots=slots, dtype=jnp.dtype(jnp.float32))


@pytest.mark.parametrize(("name", "length"), CASES)
def test_logits_of_a_whole_prompt(models, name, length):
    config, run = models[name]
    tokens = golden(name)[f"tokens/{length}"]
    logits, _ = run(tokens[None], np.zeros(1, np.int32), empty(config, 1, length))
    np.testing.assert_allclose(logits[0], golden(name)[f"logits/{length}"], atol=1e-5, rtol=0)


@pytest.mark.parametrize(("name", "length"), [case for case in CASES if case[1] > 1])
def test_a_prompt_in_pieces(models, name, length):
    """All but four tokens at once, then one at a time from the cache."""
    config, run = models[name]
    tokens, expected = (golden(name)[f"{what}/{length}"] for what in ("tokens", "logits"))
    logits, cache = run(tokens[None, :-4], np.zeros(1, np.int32), empty(config, 1, length))
    np.testing.assert_allclose(logits[0], expected[:-4], atol=1e-5, rtol=0)
    for at in range(length - 4, length):
        logits, cache = run(tokens[None, at : at + 1], np.full(1, at, np.int32), cache)
        np.testing.assert_allclose(logits[0, 0], expected[at], atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", ["full", "grouped", "single"])
def test_rows_of_different_lengths(models, name):
    """A short row's padding is overwritten, and never seen."""
    config, run = models[name]
    one, seven = golden(name)["tokens/1"], golden(name)["tokens/7"]
    padded = np.stack([seven, np.concatenate([seven[:3], np.full(4, 9, np.int32)])])
    logits, cache = run(padded, np.zeros(2, np.int32), empty(config, 2, 16))
    np.testing.assert_allclose(logits[0], golden(name)["logits/7"], atol=1e-5, rtol=0)
    np.testing.assert_allclose(logits[1, :3], golden(name)["logits/7"][:3], atol=1e-5, rtol=0)
    step = np.stack([one, seven[3:4]])
    logits, cache = run(step, np.asarray([7, 3], np.int32), cache)
    np.testing.assert_allclose(logits[1, 0], golden(name)["logits/7"][3], atol=1e-5, rtol=0)
