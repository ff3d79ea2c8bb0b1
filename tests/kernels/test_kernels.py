"""The compiled kernels of products, norms and gates: against NumPy in float64, and bit by bit in
every company."""

from __future__ import annotations

import concurrent.futures
import ctypes
import itertools
import platform
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import toolkit
from toolkit import kernels
from toolkit.kernels import library
from toolkit.models.int8 import BASE, multiplied, rounded

pytest.importorskip("ziglang", reason="needs the extra [kernels]")

ROWS = (1, 2, 5, 6, 7, 12, 13, 25, 193, 200)
CPU = Path("/proc/cpuinfo")
VNNI = CPU.exists() and "avx512_vnni" in CPU.read_text()
SIZES = [(1, 1), (3, 15), (4, 16), (9, 17), (70, 48), (300, 576), (9, 1536)]
"""Outputs and inputs: fewer than a tile, not a multiple of one, several panels."""


def normal(*shape: int, seed: int = 0) -> Any:
    return jnp.asarray(np.random.default_rng(seed).standard_normal(shape, np.float32))


@pytest.mark.parametrize(("outs", "inputs"), SIZES)
@pytest.mark.parametrize("rows", ROWS)
def test_product_equals_numpy(rows, outs, inputs):
    x, kernel = normal(rows, inputs), normal(outs, inputs, seed=1)
    found = np.asarray(kernels.product(x, kernel), np.float64)
    wide = np.asarray(x, np.float64), np.asarray(kernel, np.float64)
    # Sixteen running sums and four additions: each product is rounded inputs / 16 + 5 times.
    bound = (np.abs(wide[0]) @ np.abs(wide[1]).T) * (inputs / 16 + 5) * 2.0**-24
    assert (np.abs(found - wide[0] @ wide[1].T) <= bound + 1e-30).all()


@pytest.mark.parametrize("rows", [1, 6, 13, 200])
def test_a_product_may_be_added_to_something(rows):
    x, kernel, onto = normal(rows, 40), normal(9, 40, seed=1), normal(rows, 9, seed=2)
    found = kernels.product(x, kernel, onto)
    np.testing.assert_array_equal(found, onto + kernels.product(x, kernel))


@pytest.mark.parametrize(("outs", "inputs"), SIZES)
def test_a_row_has_the_same_bits_in_every_product(outs, inputs):
    x, kernel = normal(max(ROWS), inputs), normal(outs, inputs, seed=1)
    alone = np.concatenate([kernels.product(x[i : i + 1], kernel) for i in range(8)])
    for rows in ROWS:
        found = np.asarray(kernels.product(x[:rows], kernel))
        np.testing.assert_array_equal(found[:8], alone[:rows])


def rounded_case(outs: int, inputs: int) -> tuple[Any, Any, Any]:
    """64 rows of all sizes, among them zeros and the ends of float32; a kernel and its scale."""
    rng = np.random.default_rng(inputs)
    x = rng.standard_normal((64, inputs)) * 10.0 ** rng.integers(-20, 20, (64, 1))
    x[1:4] = x[1] * 0, np.sign(x[2]) * 1e33, np.sign(x[3]) * 1e-38
    kernel = rng.integers(-127, 128, (outs, inputs))
    return jnp.float32(x), jnp.int8(kernel), jnp.float32(rng.uniform(1e-4, 1e-2, outs))


def rounded_by_numpy(x: Any, kernel: Any, scale: Any) -> np.ndarray:
    """From the digits on without rounding."""
    first, step = map(np.asarray, rounded(x))
    second = np.rint((np.asarray(x) * (1 / step) - first) * np.float32(BASE))
    digits = first.astype(np.int64) * BASE + second.astype(np.int64)
    sums = digits @ np.asarray(kernel, np.int64).T
    return sums / BASE * step.astype(np.float64) * np.asarray(scale, np.float64)


@pytest.mark.parametrize(("outs", "inputs"), [*SIZES, (5, 100), (40, 64)])
def test_products_in_8_bits_are_numpys_and_have_the_bits_of_xla(outs, inputs):
    x, kernel, scale = rounded_case(outs, inputs)
    by_xla = np.asarray(jax.jit(multiplied)(x, kernel, scale))
    expected = rounded_by_numpy(x, kernel, scale)
    largest = np.abs(expected).max(axis=1, keepdims=True)
    assert (np.abs(by_xla - expected) <= largest * 1e-6).all()
    for rows in [*range(1, 10), 16, 17, 64]:
        with kernels.using("rounded"):
            found = multiplied(x[64 - rows :], kernel, scale)
        np.testing.assert_array_equal(found, by_xla[64 - rows :])


@pytest.mark.parametrize("rows", [3, 32])
def test_the_largest_whole_numbers(rows):
    """Sums beyond 2^24, which float32 rounds, once and as XLA does; float32 has all of these."""
    signs = np.where(np.arange(7) % 2, -127, 127)[:, None]
    kernel = jnp.asarray(np.broadcast_to(signs, (7, 8192)), jnp.int8)
    x = jnp.full((rows, 8192), -127, jnp.float32)
    with kernels.using("rounded"):
        found = np.asarray(multiplied(x, kernel, jnp.ones(7)))
    np.testing.assert_array_equal(found, np.broadcast_to(-127.0 * signs[:, 0] * 8192, found.shape))


@pytest.mark.parametrize("poison", [np.nan, np.inf])
def test_a_poisoned_row_is_seen_in_8_bits_and_no_other(poison):
    x, kernel, scale = rounded_case(20, 64)
    found = np.asarray(kernels.rounded_product(x[:3].at[2, 5].set(poison), kernel, scale))
    assert np.isnan(found[2]).all()
    np.testing.assert_array_equal(found[:2], kernels.rounded_product(x[:2], kernel, scale))


@pytest.mark.skipif(platform.machine() != "x86_64", reason="compiles for other x86 processors")
@pytest.mark.parametrize(
    ("other", "most"),
    [
        ("x86_64_v3", 3),
        pytest.param("cascadelake", 64, marks=pytest.mark.skipif(not VNNI, reason="needs VNNI")),
    ],
)
def test_8_bits_on_processors_that_can_do_less(monkeypatch, tmp_path, other, most):
    flags = [flag.replace("native", other) for flag in library.FLAGS]
    monkeypatch.setattr(library, "FLAGS", flags)
    other = ctypes.CDLL(str(library._compiled(tmp_path)))
    assert other.rounded_rows() == most
    for rows, inputs in itertools.product((1, 2, 3, 7, 64), (5, 576, 14336)):
        x, *weights = rounded_case(9, inputs)
        case = x[:rows], *weights
        y = np.zeros((rows, 9), np.float32)
        pointers = [ctypes.c_void_p(np.asarray(array).ctypes.data) for array in (*case, y)]
        other.rounded_product(*pointers, *map(ctypes.c_int64, (rows, inputs, 9)))
        np.testing.assert_array_equal(y, jax.jit(multiplied)(*case))


def test_products_at_the_same_time_end_alike():
    """One caller has the team of threads, the others work alone."""
    x, kernel = normal(3, 576), normal(4000, 576, seed=1)
    expected = np.asarray(kernels.product(x, kernel))
    with concurrent.futures.ThreadPoolExecutor(4) as threads:
        for found in threads.map(lambda _: np.asarray(kernels.product(x, kernel)), range(200)):
            np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("offset", [0.0, 1.0])
@pytest.mark.parametrize(("rows", "count"), [(1, 1), (1, 576), (3, 17), (70, 1536), (9, 64)])
def test_norm_equals_numpy_and_a_row_has_the_same_bits_in_every_company(rows, count, offset):
    x, scale = normal(rows, count) * 5, normal(count, seed=1)
    found = np.asarray(kernels.norm(x, scale, epsilon=1e-5, offset=offset))
    wide = np.asarray(x, np.float64)
    mean = np.sqrt((wide**2).mean(axis=1, keepdims=True) + 1e-5)
    expected = wide / mean * (offset + np.asarray(scale, np.float64))
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-30)
    alone = [kernels.norm(x[i], scale, epsilon=1e-5, offset=offset) for i in range(rows)]
    np.testing.assert_array_equal(found, alone)


@pytest.mark.parametrize(("rows", "count"), [(1, 1), (1, 1536), (3, 17), (70, 1536), (9, 64)])
def test_gated_equals_numpy_and_a_row_has_the_same_bits_in_every_company(rows, count):
    x = normal(rows, 2 * count) * 5
    found = np.asarray(kernels.gated(x))
    gate, up = np.split(np.asarray(x, np.float64), 2, axis=1)
    np.testing.assert_allclose(found, gate / (1 + np.exp(-gate)) * up, rtol=1e-6, atol=1e-30)
    np.testing.assert_array_equal(found, [kernels.gated(x[i]) for i in range(rows)])


def test_gates_at_the_ends_of_the_floats():
    ends = [0, -0.0, 1e-30, -1e-30, 86, -86, -1e30, 1e30, np.inf, -np.inf, np.nan]
    gate = np.array(ends * 2, np.float32)  # sixteen side by side, and what is left
    found = np.asarray(kernels.gated(jnp.asarray(np.stack([gate, np.ones_like(gate)]).ravel())))
    np.testing.assert_allclose(found, jax.nn.silu(gate), rtol=1e-6, atol=1e-37)


@pytest.mark.slow
@pytest.mark.parametrize("compiled", [False, True])
def test_strict_mode_holds_with_8_bit_weights(folder, compiled):
    """Prompts that are computed in groups, packed, continued and in chunks."""
    with toolkit.load(folder, strict=True, quant="int8", kernels=compiled) as lm:

        def drawn(number: int) -> list[tuple[int, float]]:
            prompt = f"Number {number % 7} is" + " and so on" * (number * number)
            answer = lm.complete(prompt, seed=7, max_tokens=5, logprobs=5, prompt_logprobs=1)
            return [(token.id, token.logprob) for token in answer.record.choices[0].tokens]

        alone = []
        for number in range(14):
            lm.engine.forget_prompts()
            alone.append(drawn(number))
        lm.engine.forget_prompts()
        with concurrent.futures.ThreadPoolExecutor(14) as threads:
            assert list(threads.map(drawn, range(14))) == alone
