"""Every family's logits against those of Hugging Face (tests/golden/make_families.py)."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from tests.models.tiny_families import CASES, LENGTHS, prompts, weights, write_case
from toolkit.kernels import prepare
from toolkit.models import Decoder, KVCache, load
from toolkit.models.families import FAMILIES, read_config, weight_parts
from toolkit.models.packing import Packing

GOLDEN = Path(__file__).parents[1] / "golden/families.npz"
SLOW = {"qwen3_moe-dense", "mixtral-window"}
"""Mixtures take seconds to compile; these are left to the parity tests."""
AHEAD = 4
"""Tokens at the end of the longest prompt that go one by one."""


@functools.cache
def golden(name: str) -> list[np.ndarray]:
    """Hugging Face's logits of the three prompts, `[T, V]` each."""
    with np.load(GOLDEN) as arrays:
        return np.split(arrays[name], np.cumsum(LENGTHS)[:-1])


def tiny(
    folder: Path, name: str, *, kernels: Literal["decoding", "short"] | None = None
) -> Decoder:
    """The decoder of a case, loaded from a folder."""
    raw = CASES[name]
    parts = weight_parts(read_config(raw))
    shapes = {part.name: part.shape for group in parts.values() for part in group}
    made = weights(shapes, offset=raw["model_type"].startswith("gemma"))
    return load(write_case(folder, raw, made), kernels=kernels)


def forward(decoder: Decoder) -> Callable[..., Any]:
    """`run(tokens, start, cache) -> (logits, cache)`.

    An operation at a time, so that cases share what is compiled for one; but for a mixture's loop,
    which would be compiled again for each call.
    """

    def run(decoder: Decoder, tokens: Any, start: Any, cache: KVCache) -> tuple[Any, KVCache]:
        hidden, cache = decoder(jnp.asarray(tokens), jnp.asarray(start), cache)
        return decoder.logits(hidden), cache

    return functools.partial(nnx.jit(run) if decoder.config.experts else run, decoder)


@pytest.mark.parametrize("name", [name for name in CASES if name not in SLOW])
def test_logits_equal_hugging_face(name, tmp_path):
    """Three prompts of different lengths in one batch, all at once; then the last tokens one by
    one from the cache, each row at its own position."""
    decoder = tiny(tmp_path, name)
    run, rows, expected = forward(decoder), prompts(name), golden(name)
    longest = max(LENGTHS)
    padded = np.stack([np.pad(row, (0, longest - len(row)), constant_values=5) for row in rows])
    empty = KVCache.zeros(decoder.config, rows=3, slots=32, dtype=jnp.dtype(jnp.float32))
    logits, cache = run(padded, np.zeros(3, np.int32), empty)
    for row, whole in zip(logits, expected, strict=True):
        np.testing.assert_allclose(row[: len(whole)], whole, atol=1e-5, rtol=0)
    starts = np.asarray([max(length - AHEAD, 0) for length in LENGTHS], np.int32)
    for step in range(AHEAD):
        at = np.minimum(starts + step, np.asarray(LENGTHS, np.int32) - 1)
        token = np.asarray([row[i] for row, i in zip(rows, at, strict=True)], np.int32)
        logits, cache = run(token[:, None], at, cache)
        for row, whole, i in zip(logits, expected, at, strict=True):
            np.testing.assert_allclose(row[0], whole[i], atol=1e-5, rtol=0)


@pytest.mark.parametrize("kind", ["decoding", "short"])
@pytest.mark.parametrize("name", ["qwen3", "gemma2", "gpt2-untied", "mixtral", "phi3"])
def test_kernels_give_the_same_logits(name, kind, tmp_path, pytestconfig):
    """The first tokens together, the others one by one. Most heads here are 8 features wide, which
    attention leaves to XLA; Qwen's are 16."""
    pytest.importorskip("ziglang", reason="needs the extra [kernels]")
    prepare(pytestconfig.cache.mkdir("kernels"))
    decoder = tiny(tmp_path, name, kernels=kind)
    run, row, whole = forward(decoder), prompts(name)[0], golden(name)[0]
    cache = KVCache.zeros(decoder.config, rows=1, slots=32, dtype=jnp.dtype(jnp.float32))
    at = max(1, len(row) - AHEAD)
    logits, cache = run(row[None, :at], np.zeros(1, np.int32), cache)
    np.testing.assert_allclose(logits[0], whole[:at], atol=1e-5, rtol=0)
    for i in range(at, len(row)):
        logits, cache = run(row[None, i : i + 1], np.full(1, i, np.int32), cache)
        np.testing.assert_allclose(logits[0, 0], whole[i], atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    "name", {raw["model_type"]: name for name, raw in CASES.items() if name not in SLOW}.values()
)
def test_packed_prompts_equal_hugging_face(name, tmp_path):
    """The same prompts one after another in a single row, without padding between them; then each
    one's last token again, from the cache."""
    decoder = tiny(tmp_path, name)
    rows, expected = prompts(name), golden(name)
    size = {"rows": 4, "width": max(LENGTHS), "tokens": sum(LENGTHS) + 2}
    packing, packed = Packing.of(list(LENGTHS), **size), np.concatenate([*rows, [5, 5]])[None]
    empty = KVCache.zeros(decoder.config, rows=4, slots=32, dtype=jnp.dtype(jnp.float32))
    hidden, cache = decoder(jnp.asarray(packed), jnp.zeros(4, jnp.int32), empty, packing)
    logits = decoder.logits(hidden)[0, : sum(LENGTHS)]
    np.testing.assert_allclose(logits, np.concatenate(expected), atol=1e-5, rtol=0)
    last = np.asarray([*LENGTHS, 1], np.int32) - 1
    token = np.asarray([*(row[-1] for row in rows), 5], np.int32)
    logits, _ = forward(decoder)(token[:, None], last, cache)
    for row, whole in zip(logits, expected, strict=False):
        np.testing.assert_allclose(row[0], whole[-1], atol=1e-5, rtol=0)


def test_every_family_has_cases():
    assert {raw["model_type"] for raw in CASES.values()} == set(FAMILIES)
