"""What a row of logits says about a token and about itself, against NumPy in float64."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

from toolkit import kernels
from toolkit.sampling.logprobs import score

pytest.importorskip("ziglang", reason="needs the extra [kernels]")

WIDTHS = (1, 5, 16, 17, 256, 300, 5000)


def logits_of(width: int, rows: int = 7) -> Any:
    """Rows with equal logits, with some at minus infinity, and with a wide range."""
    rng = np.random.default_rng(width)
    x = rng.normal(size=(rows, width)).astype(np.float32) * 5
    x[1] = np.round(x[1])
    x[2, rng.random(width) < 0.5] = -np.inf
    x[2, 0] = 1.0
    x[3] *= 40
    x[4] += 1000
    return x


@pytest.mark.parametrize("width", WIDTHS)
def test_moments_equal_numpy(width):
    x = logits_of(width)
    token = np.random.default_rng(1).integers(0, width, len(x)).astype(np.int32)
    peak, norm, entropy, rank = (np.asarray(y) for y in kernels.moments(x, token))
    np.testing.assert_array_equal(peak, x.max(1))
    distance = x.astype(np.float64) - x.max(1, keepdims=True)
    each = np.exp(distance)
    mass = each.sum(1)
    np.testing.assert_allclose(norm, np.log(mass), rtol=2e-6, atol=2e-6)
    weighted = np.where(each > 0, each * np.where(each > 0, distance, 0), 0).sum(1)
    np.testing.assert_allclose(entropy, np.log(mass) - weighted / mass, rtol=1e-5, atol=1e-5)
    order = np.lexsort((np.broadcast_to(np.arange(width), x.shape), -x), axis=1)
    assert [list(o).index(t) + 1 for o, t in zip(order, token, strict=True)] == rank.tolist()


def test_a_row_has_the_same_bits_in_every_company():
    x = logits_of(5000)
    token = np.arange(7, dtype=np.int32)
    whole = kernels.moments(x, token)
    for row in range(7):
        alone = kernels.moments(x[row : row + 1], token[row : row + 1])
        assert [float(y[0]) for y in alone] == [float(y[row]) for y in whole]


@pytest.mark.parametrize("details", [True, False])
def test_scores_are_those_of_xla(details):
    x, token = jnp.asarray(logits_of(5000)), jnp.arange(7, dtype=jnp.int32)
    top = jnp.asarray([[3, 1]] * 7, jnp.int32)
    by_xla = score(x, token, top_ids=top, details=details)
    with kernels.using("moments"):
        found = score(x, token, top_ids=top, details=details)
    for name in ("logprob", "entropy", "top_logprobs"):
        expected = getattr(by_xla, name)
        np.testing.assert_allclose(getattr(found, name), expected, rtol=1e-5, atol=1e-5)
    if details:
        np.testing.assert_array_equal(found.rank, by_xla.rank)
