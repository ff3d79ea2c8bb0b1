"""Arrays side by side in large blocks."""

from __future__ import annotations

import gc
import weakref

import jax
import numpy as np
import pytest

from toolkit.models.arena import ALIGNMENT, BLOCK, PAGE, Arena

FLOAT = np.dtype(np.float32)


def start(array: np.ndarray) -> int:
    return array.ctypes.data


def test_arrays_are_aligned_and_do_not_overlap():
    arena = Arena()
    arrays = [arena.empty(shape, FLOAT) for shape in [(3,), (5, 7), (1,), (0, 4), (16, 16)]]
    for number, array in enumerate(arrays):
        assert start(array) % ALIGNMENT == 0
        array[...] = number
    assert [set(array.ravel().tolist()) for array in arrays] == [{0.0}, {1.0}, {2.0}, set(), {4.0}]
    assert [array.shape for array in arrays] == [(3,), (5, 7), (1,), (0, 4), (16, 16)]


def test_small_arrays_share_a_block_that_begins_with_a_page():
    arena = Arena()
    first, second = arena.empty((100,), FLOAT), arena.empty((100,), FLOAT)
    assert start(first) % PAGE == 0
    assert start(second) - start(first) == 448  # 400 bytes, up to the next multiple of 64


@pytest.mark.parametrize("size", [BLOCK - 64, BLOCK, BLOCK + 64])
def test_what_does_not_fit_begins_a_block(size: int):
    arena = Arena()
    arena.empty((1000,), FLOAT)
    large = arena.empty((size,), np.dtype(np.uint8))
    assert large.size == size
    assert start(large) % PAGE == 0


def test_a_block_goes_with_its_last_array():
    arena = Arena()
    array = arena.empty((100,), FLOAT)
    block = array
    while isinstance(block.base, np.ndarray):
        block = block.base
    alive = weakref.ref(block)
    arena.empty((BLOCK,), np.dtype(np.uint8))  # the arena turns to another block
    del block
    assert alive() is not None
    del array
    gc.collect()
    assert alive() is None


@pytest.mark.skipif(jax.default_backend() != "cpu", reason="other devices have memory of their own")
def test_jax_adopts_the_memory():
    array = Arena().empty((256, 256), FLOAT)
    array[...] = 1.0
    adopted = jax.device_put(array)
    assert adopted.unsafe_buffer_pointer() == start(array)
