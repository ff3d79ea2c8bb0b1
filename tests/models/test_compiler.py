"""What a function is compiled with on a CPU."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest

from toolkit.models.compiler import jit
from toolkit.sampling.sums import block_sums

ROWS = (1, 2, 3, 8, 16, 17, 33, 64)


def share_sums(x):
    """The sums of a softmax's numerators, by products: where XLA's own fusion goes wrong."""
    shares = jnp.exp(x - jnp.max(x, axis=-1, keepdims=True))
    return block_sums(shares)


@pytest.mark.parametrize("count", [1, 2, 9, 192])
def test_sums_of_shares(count):
    x = np.random.default_rng(count).standard_normal((64, count, 256)).astype(np.float32)
    expected = np.exp(x - x.max(-1, keepdims=True)).astype(np.float64).sum(-1)
    np.testing.assert_allclose(jit(share_sums)(x), expected, rtol=1e-5)


@pytest.mark.parametrize("count", [1, 9])
def test_a_row_has_the_same_bits_among_any_others(count):
    x = np.random.default_rng(count).standard_normal((64, count, 256)).astype(np.float32)
    run = jit(share_sums, decoding=True)
    all_rows = np.asarray(run(x))
    for rows in ROWS:
        np.testing.assert_array_equal(run(x[:rows]), all_rows[:rows])


def test_settings_are_passed_on():
    run = jit(lambda x, times: x * times, static_argnums=1)
    np.testing.assert_array_equal(run(np.arange(3, dtype=np.float32), 2), [0, 2, 4])
