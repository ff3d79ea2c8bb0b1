"""Every family against Hugging Face, computed by PyTorch in float32 beside ours."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

torch = pytest.importorskip("torch", reason="`make test-parity` installs it")

from tests.golden.make_families import peer  # noqa: E402
from tests.models.test_family_logits import tiny  # noqa: E402
from tests.models.tiny_families import CASES, SWITCHES, VOCABULARY  # noqa: E402
from toolkit.models import KVCache, load  # noqa: E402
from toolkit.models.compiler import jit  # noqa: E402

pytestmark = pytest.mark.parity

LENGTH = 48
STEPS = 6
"""Tokens at the end of the prompt that go one by one through the cache."""


@functools.cache
def tokens() -> np.ndarray:
    """One prompt for all."""
    return np.random.default_rng(0).integers(0, VOCABULARY, LENGTH).astype(np.int32)


def theirs(model: Any) -> tuple[np.ndarray, np.ndarray]:
    """Logits `[T, V]` of the prompt at once, and with its last tokens from the cache."""
    ids = torch.from_numpy(tokens()).long()[None]
    with torch.no_grad():
        whole = model(ids).logits[0].numpy()
        out = model(ids[:, :-STEPS], use_cache=True)
        pieces = [out.logits[0]]
        for at in range(LENGTH - STEPS, LENGTH):
            out = model(ids[:, at : at + 1], past_key_values=out.past_key_values)
            pieces.append(out.logits[0])
    return whole, torch.cat(pieces).numpy()


def ours(decoder: Any, dtype: Any = jnp.float32) -> tuple[np.ndarray, np.ndarray]:
    """The same from our decoder, jitted."""
    graph, state = nnx.split(decoder)

    @jit
    def run(state, tokens, start, cache):
        model = nnx.merge(graph, state)
        hidden, cache = model(tokens, start, cache)
        return model.logits(hidden), cache

    cache = KVCache.zeros(decoder.config, rows=1, slots=LENGTH, dtype=jnp.dtype(dtype))
    whole, _ = run(state, tokens()[None], np.zeros(1, np.int32), cache)
    logits, cache = run(state, tokens()[None, :-STEPS], np.zeros(1, np.int32), cache)
    pieces = [np.asarray(logits[0])]
    for at in range(LENGTH - STEPS, LENGTH):
        logits, cache = run(state, tokens()[None, at : at + 1], np.full(1, at, np.int32), cache)
        pieces.append(np.asarray(logits[0]))
    return np.asarray(whole[0]), np.concatenate(pieces)


@pytest.mark.parametrize("name", CASES)
def test_whole_and_cached(name, tmp_path):
    """All logits to 1e-5, of the same files, at once and from the cache.

    Where LongRoPE is scaled, Hugging Face turns cached keys by other angles once a prompt is longer
    than the first training; our context ends there.
    """
    model, decoder = peer(tmp_path, CASES[name]), load(tmp_path)
    if decoder.config.context < LENGTH:
        pytest.skip("the prompt is longer than the context")
    for found, expected in zip(ours(decoder), theirs(model), strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", CASES)
def test_what_transformers_writes_is_read(name, tmp_path):
    """The configuration as transformers saves it today, and its weights, with no attribute left
    over and no tensor missing."""
    peer(tmp_path / "made", CASES[name]).save_pretrained(tmp_path / "saved")
    assert load(tmp_path / "saved").config == tiny(tmp_path / "written", name).config


@pytest.mark.parametrize("name", SWITCHES)
def test_bfloat16_is_near(name, tmp_path):
    """In bfloat16, our logits are no farther from the float32 ones than twice what PyTorch's are,
    on the same device where both have it."""
    model = peer(tmp_path, CASES[name])
    exact, _ = theirs(model)
    rounded, _ = theirs_rounded(model)
    found, _ = ours(load(tmp_path, dtype=jnp.bfloat16), jnp.bfloat16)
    assert np.abs(found - exact).max() < 2 * np.abs(rounded - exact).max() + 0.02


def theirs_rounded(model: Any) -> tuple[np.ndarray, np.ndarray]:
    """Their logits in bfloat16."""
    both = jax.default_backend() == "gpu" and torch.cuda.is_available()
    device = torch.device("cuda" if both else "cpu")
    ids = torch.from_numpy(tokens()).long()[None].to(device)
    with torch.no_grad():
        whole = model.to(device, torch.bfloat16)(ids).logits[0].float().cpu().numpy()
    return whole, whole
