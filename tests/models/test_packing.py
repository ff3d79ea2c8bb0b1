"""Packed prompts, place by place."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np

from toolkit.models.packing import Packing


def test_where_tokens_stand():
    packing = Packing.of([3, 1, 2], rows=4, width=4, tokens=8)
    assert np.asarray(packing.token)[0, :3].tolist() == [0, 1, 2]
    assert np.asarray(packing.token)[1, :1].tolist() == [3]
    assert np.asarray(packing.token)[2, :2].tolist() == [4, 5]
    assert np.asarray(packing.place)[:6].tolist() == [0, 1, 2, 4, 8, 9]


def test_there_and_back():
    packing = Packing.of([3, 1, 2], rows=4, width=4, tokens=8)
    x = jnp.arange(16.0).reshape(1, 8, 2)
    grid = packing.spread(x)
    assert grid.shape == (4, 4, 2)
    assert grid[2, :2].tolist() == x[0, 4:6].tolist()
    assert packing.gathered(grid)[0, :6].tolist() == x[0, :6].tolist()
