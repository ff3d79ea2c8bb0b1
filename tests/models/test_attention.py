"""The back ends of attention against each other, and which call gets which."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from toolkit.models import attention
from toolkit.models.attention import read, suited
from toolkit.models.cache import LayerCache
from toolkit.models.compiler import jit

BATCH, LENGTH, SLOTS, WIDTH = 2, 6, 16, 8
BOUNDS = {"float32": 2e-6, "bfloat16": 2e-2, "float16": 2e-3}
"""bfloat16 keeps 8 bits of a share and of a value, float16 11; the values are about 1."""


def case(heads: int, kv_heads: int, dtype: str) -> tuple[Any, ...]:
    """Queries, a full cache and where each row's queries begin."""
    rng = np.random.default_rng(heads + kv_heads)
    q = rng.standard_normal((BATCH, heads, LENGTH, WIDTH))
    keys, values = rng.standard_normal((2, BATCH * kv_heads, SLOTS, WIDTH))
    made = [jnp.asarray(x, dtype) for x in (q, keys, values)]
    return made[0], LayerCache(keys=made[1], values=made[2]), jnp.asarray([0, 7], jnp.int32)


def by_numpy(q, layer, start, scale, window) -> np.ndarray:
    """Query by query, in float64."""
    q, keys, values = (np.asarray(x, np.float64) for x in (q, layer.keys, layer.values))
    batch, heads, length, width = q.shape
    kv = len(keys) // batch
    out = np.zeros(q.shape)
    for b, n, t in np.ndindex(batch, heads, length):
        head = b * kv + n * kv // heads
        last = int(start[b]) + t
        first = 0 if window is None else max(0, last - window + 1)
        scores = keys[head, first : last + 1] @ q[b, n, t] * (scale or width**-0.5)
        shares = np.exp(scores - scores.max())
        out[b, n, t] = shares @ values[head, first : last + 1] / shares.sum()
    return out


@pytest.mark.parametrize("backend", ["products", "fused"])
@pytest.mark.parametrize("dtype", list(BOUNDS))
@pytest.mark.parametrize(("heads", "kv_heads"), [(4, 4), (6, 2), (3, 1)])
@pytest.mark.parametrize(("scale", "window"), [(None, None), (0.3, 4), (None, 1)])
def test_back_ends_equal_numpy(backend, dtype, heads, kv_heads, scale, window):
    q, layer, start = case(heads, kv_heads, dtype)
    found = read(q, layer, start, scale=scale, window=window, backend=backend)
    assert found.dtype == q.dtype
    expected = by_numpy(q, layer, start, scale, window)
    np.testing.assert_allclose(np.asarray(found, np.float64), expected, atol=BOUNDS[dtype], rtol=0)


@pytest.mark.parametrize("width", [8, 64, 128])
@pytest.mark.parametrize("heads", [1, 2, 9])
def test_a_prompt_has_the_same_bits_in_any_group_and_padding(heads, width):
    """Each head has keys of its own, as in GPT-2: few queries, of 16 tokens, read one head."""
    rng = np.random.default_rng(heads)
    q = rng.standard_normal((1, heads, 64, width)).astype(np.float32)
    keys, values = rng.standard_normal((2, heads, 64, width)).astype(np.float32)
    run = jit(by_products)
    whole = np.asarray(run(q, keys, values))
    for length in (16, 32):
        np.testing.assert_array_equal(run(q[:, :, :length], keys, values), whole[:, :, :length])
    longer = [np.pad(x, ((0, 0), (0, 192), (0, 0))) for x in (keys, values)]
    among = run(np.repeat(q, 4, axis=0), *(np.tile(x, (4, 1, 1)) for x in longer))
    for row in np.asarray(among):
        np.testing.assert_array_equal(row, whole[0])


def by_products(q, keys, values):
    """Attention from the first slot on."""
    start = jnp.zeros(len(q), jnp.int32)
    return read(q, LayerCache(keys=keys, values=values), start, backend="products")


CALLS = [
    ("bfloat16", 512, 64, None, "fused"),
    ("float16", 32, 128, None, "fused"),
    ("bfloat16", 1, 64, None, "products"),
    ("bfloat16", 31, 64, None, "products"),
    ("float32", 512, 64, None, "products"),
    ("bfloat16", 512, 64, 50.0, "products"),
    ("bfloat16", 512, 256, None, "products"),
    ("bfloat16", 512, 60, None, "products"),
]


@pytest.mark.parametrize(("dtype", "length", "width", "cap", "backend"), CALLS)
def test_which_calls_are_fused_on_cuda(monkeypatch, dtype, length, width, cap, backend):
    monkeypatch.setattr(attention, "on_cuda", lambda: True)
    assert suited(jnp.dtype(dtype), length, width, cap) == backend


def test_nothing_is_fused_elsewhere():
    assert not attention.on_cuda()
    for dtype, length, width, cap, _ in CALLS:
        assert suited(jnp.dtype(dtype), length, width, cap) == "products"


def lowered(length: int) -> str:
    """The program for CUDA of a call in half precision, made without a CUDA device."""
    cache = jnp.zeros((2, 128, 64), jnp.bfloat16)

    def run(q, keys, values, start):
        return read(q, LayerCache(keys=keys, values=values), start)

    shapes = jnp.zeros((1, 4, length, 64), jnp.bfloat16), cache, cache, jnp.zeros(1, jnp.int32)
    return jax.jit(run).trace(*shapes).lower(lowering_platforms=("cuda",)).as_text()


def test_a_prompt_runs_cudnns_kernel_and_a_step_does_not(monkeypatch):
    monkeypatch.setattr(attention, "on_cuda", lambda: True)
    from jax._src.cudnn import fused_attention_stablehlo as cudnn

    monkeypatch.setattr(cudnn, "check_cudnn_version", lambda: 91000)
    assert "fmha" in lowered(64)
    assert "fmha" not in lowered(1)


@pytest.mark.gpu
@pytest.mark.parametrize(("heads", "kv_heads"), [(8, 8), (8, 2)])
@pytest.mark.parametrize("window", [None, 100])
def test_back_ends_agree_on_the_device(heads, kv_heads, window):
    keys = jax.random.split(jax.random.key(0), 3)
    q = jax.random.normal(keys[0], (2, heads, 256, 64), jnp.bfloat16)
    k, v = (jax.random.normal(key, (2 * kv_heads, 512, 64), jnp.bfloat16) for key in keys[1:])
    start, layer = jnp.asarray([0, 200], jnp.int32), LayerCache(keys=k, values=v)
    fused, products = (
        read(q, layer, start, window=window, backend=backend) for backend in ("fused", "products")
    )
    np.testing.assert_allclose(
        np.asarray(fused, np.float32), np.asarray(products, np.float32), atol=2e-2, rtol=0
    )
