"""Products of many rows: by the processor's matrix unit, and by panels."""

from __future__ import annotations

import concurrent.futures
import ctypes
import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from tests.models.tiny_families import CASES
from toolkit import kernels
from toolkit.kernels import library
from toolkit.models.cache import KVCache
from toolkit.models.decoder import Decoder
from toolkit.models.families import read_config

pytest.importorskip("ziglang", reason="needs the extra [kernels]")

ROWS = (1, 13, 14, 16, 31, 32, 33, 64, 100, 200)
SMALL = [(1, 1), (15, 31), (16, 32), (33, 33), (70, 48)]
SIZES = [*SMALL, (300, 576), (2500, 64), (40, 1536), (33, 577), (40, 1153)]
"""Outputs and inputs: fewer than a tile, not a multiple of one, several parts, several runs of
inputs, and such of unequal length."""


class Product(ctypes.Structure):
    """As in kernels.h."""

    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("x", "kernel", "onto", "y")),
        *((name, ctypes.c_int64) for name in ("rows", "inputs", "outs")),
    )


@pytest.fixture(scope="module", params=["unit", "panels"])
def tiled(request, prepared) -> Callable[..., np.ndarray]:
    """The way that the processor has, and panels where it has a better one."""
    (compiled,) = library._libraries
    if not kernels.has_many():
        pytest.skip("the processor has neither")
    if request.param == "panels":
        return functools.partial(by_panels, compiled)
    if not compiled.has_tiles():
        pytest.skip("the processor has no matrix unit, or the system keeps it")
    return lambda *given: np.asarray(kernels.product(*given, many=True))


def by_panels(compiled: ctypes.CDLL, x: Any, kernel: Any, onto: Any = None) -> np.ndarray:
    arrays = [None if a is None else np.ascontiguousarray(a) for a in (x, kernel, onto)]
    y = np.full((len(x), len(kernel)), np.nan, np.float32)
    pointers = [None if a is None else a.ctypes.data for a in (*arrays, y)]
    job = Product(*pointers, *x.shape, len(kernel))
    assert compiled.panel_product(ctypes.byref(job))
    return y


def normal(*shape: int, seed: int = 0) -> Any:
    return jnp.asarray(np.random.default_rng(seed).standard_normal(shape, np.float32))


@pytest.mark.parametrize(("outs", "inputs"), SIZES)
@pytest.mark.parametrize("rows", ROWS)
def test_product_equals_numpy(tiled, rows, outs, inputs):
    x, kernel = normal(rows, inputs), normal(outs, inputs, seed=1)
    wide = np.asarray(x, np.float64), np.asarray(kernel, np.float64)
    error = np.abs(tiled(x, kernel) - wide[0] @ wide[1].T)
    # Three roundings of the sum for each input, and three parts of a product are left out.
    size = np.abs(wide[0]) @ np.abs(wide[1]).T
    assert (error <= size * (3 * inputs + 6) * 2.0**-24).all()
    assert np.sqrt(np.mean(error**2)) <= 1e-6 * max(1, inputs**0.5)


@pytest.mark.parametrize(("outs", "inputs"), SIZES)
@pytest.mark.parametrize("rows", [1, 16, 33])
def test_a_product_may_be_added_to_something(tiled, rows, outs, inputs):
    x, kernel, onto = normal(rows, inputs), normal(outs, inputs, seed=1), normal(rows, outs, seed=2)
    expected = tiled(x, kernel) + np.asarray(onto)
    size = np.abs(expected).max()
    np.testing.assert_allclose(tiled(x, kernel, onto), expected, atol=size * 2e-7, rtol=0)


def test_it_is_as_exact_as_a_product_in_float32(tiled):
    x, kernel = normal(256, 576), normal(960, 576, seed=1)
    exact = np.asarray(x, np.float64) @ np.asarray(kernel, np.float64).T
    by_numpy = np.sqrt(np.mean((np.asarray(x) @ np.asarray(kernel).T - exact) ** 2))
    assert np.sqrt(np.mean((tiled(x, kernel) - exact) ** 2)) <= 1.5 * by_numpy


@pytest.mark.parametrize("power", [-60, 60])
def test_large_and_small_numbers(tiled, power):
    x, kernel = normal(40, 100), normal(50, 100, seed=1)
    found = tiled(x * 2.0**power, kernel)
    np.testing.assert_array_equal(found, tiled(x, kernel) * np.float32(2.0**power))


@pytest.mark.parametrize(("outs", "inputs"), SIZES)
def test_a_row_has_the_same_bits_in_every_product(tiled, outs, inputs):
    x, kernel = normal(max(ROWS), inputs), normal(outs, inputs, seed=1)
    whole = tiled(x, kernel)
    for rows in ROWS:
        np.testing.assert_array_equal(tiled(x[-rows:], kernel), whole[-rows:])


def test_products_at_the_same_time_end_alike(tiled):
    """One caller has the team of threads, the others work alone."""
    x, kernel = normal(70, 576), normal(1000, 576, seed=1)
    expected = tiled(x, kernel)
    with concurrent.futures.ThreadPoolExecutor(4) as threads:
        for found in threads.map(lambda _: tiled(x, kernel), range(50)):
            np.testing.assert_array_equal(found, expected)


LONG = [("short", 200), ("decoding", 200), ("decoding", 16)]
SHORT = [("short", 64), ("short", 1), ("decoding", 1), (None, 200)]


@pytest.mark.parametrize(("extent", "length"), LONG + SHORT)
def test_which_prompts_use_them(extent, length):
    """In strict mode all, so that a prompt has the same bits however it is cut."""
    text = program(extent, length)
    used = "toolkit_many_product" in text
    assert used == ((extent, length) in LONG and kernels.has_many())
    assert ("toolkit_gate" in text) == (extent is not None)


@pytest.mark.parametrize("few", [True, False])
def test_the_head_uses_them_where_it_is_told_to(few):
    logits = functools.partial(tiny("short").logits, few=few)
    text = str(jax.make_jaxpr(logits)(jnp.ones((128, 64))))
    assert ("toolkit_many_product" in text) == (kernels.has_many() and not few)


def tiny(extent: Any) -> Decoder:
    config = dataclasses.replace(read_config(CASES["llama"]), kernels=extent, width=64)
    return Decoder(config, rngs=nnx.Rngs(0))


def program(extent: Any, length: int) -> str:
    """The operations of a call of the layers."""
    decoder = tiny(extent)
    cache = KVCache.zeros(decoder.config, rows=1, slots=256, dtype=jnp.float32)
    tokens, start = jnp.zeros((1, length), jnp.int32), jnp.zeros((1,), jnp.int32)
    return str(jax.make_jaxpr(decoder)(tokens, start, cache))
