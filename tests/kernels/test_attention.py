"""Attention by a compiled kernel: against NumPy in float64, XLA's turn, and bit by bit in every
company."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

from tests.kernels.test_kernels import normal
from toolkit import kernels
from toolkit.models.attention import attend
from toolkit.models.cache import LayerCache, SharedPrefixes

pytest.importorskip("ziglang", reason="needs the extra [kernels]")


def attention(
    q, layer: LayerCache, start, shared: SharedPrefixes | None = None, turns=None, **settings
) -> Any:
    """What the queries read, as if the keys and values of their own slots were new; these are wrong
    in the cache that is given."""
    batch, length = len(q), q.shape[2]
    slot = np.asarray(start)[:, None] + np.arange(length)
    at = np.arange(batch)[:, None], slice(None), slot
    each = [x.reshape(batch, -1, *x.shape[1:]) for x in (layer.keys, layer.values)]
    own = [x[at] for x in each]
    given = [x.at[at].set(jnp.nan).reshape(layer.keys.shape) for x in each]
    shared = shared or SharedPrefixes.none(batch)
    mixed, keys, values = kernels.attention(
        jnp.concatenate([q.transpose(0, 2, 1, 3), *own], axis=2),
        *given,
        start,
        shared.source,
        shared.length,
        turns,
        **settings,
    )
    np.testing.assert_array_equal(values, layer.values)
    if turns is None:
        np.testing.assert_array_equal(keys, layer.keys)
    return mixed.transpose(0, 2, 1, 3)


def by_numpy(q, layer, start, scale, cap, window) -> np.ndarray:
    """Query by query, in float64."""
    q, keys, values = (np.asarray(x, np.float64) for x in (q, layer.keys, layer.values))
    batch, heads, length, _ = q.shape
    kv = len(keys) // batch
    out = np.zeros(q.shape)
    for b, n, t in np.ndindex(batch, heads, length):
        head, last = b * kv + n * kv // heads, int(start[b]) + t
        first = 0 if window is None else max(0, last - window + 1)
        scores = keys[head, first : last + 1] @ q[b, n, t] * scale
        scores = scores if cap is None else np.tanh(scores / cap) * cap
        shares = np.exp(scores - scores.max())
        out[b, n, t] = shares @ values[head, first : last + 1] / shares.sum()
    return out


def attention_case(heads: int, kv: int, width: int, length: int, slots: int) -> tuple[Any, ...]:
    q = normal(2, heads, length, width)
    layer = LayerCache(
        keys=normal(2 * kv, slots, width, seed=1), values=normal(2 * kv, slots, width, seed=2)
    )
    return q, layer, jnp.asarray([0, slots - length], jnp.int32)


@pytest.mark.parametrize(
    ("scale", "cap", "window"), [(0.1, None, None), (0.5, 3.0, 7), (2.0, None, 1)]
)
@pytest.mark.parametrize(
    ("heads", "kv", "width"), [(3, 3, 16), (9, 3, 64), (2, 1, 80), (7, 1, 128)]
)
@pytest.mark.parametrize(("length", "slots"), [(1, 1), (1, 33), (5, 21), (40, 64)])
def test_attention_equals_numpy(heads, kv, width, length, slots, scale, cap, window):
    q, layer, start = attention_case(heads, kv, width, length, slots)
    found = attention(q, layer, start, scale=scale, cap=cap, window=window)
    expected = by_numpy(q, layer, start, scale, cap, window)
    np.testing.assert_allclose(found, expected, atol=4e-6, rtol=0)


@pytest.mark.parametrize("length", [1, 2, 7])
@pytest.mark.parametrize("window", [None, 5])
def test_a_query_has_the_same_bits_among_other_queries_and_slots(window, length):
    """One that is alone is a step of decoding, whose bits may differ from those of a prompt's."""
    q, layer, _ = attention_case(9, 3, 64, 40, 64)
    start = jnp.zeros(2, jnp.int32)

    def mixed(q: Any, layer: LayerCache, start: Any) -> np.ndarray:
        made = attention(q, layer, start, scale=0.125, cap=None, window=window)
        return np.asarray(made)

    parts = [slice(t, t + length) for t in (0, 1, 16, 33)]
    if length == 1:
        whole = np.concatenate([mixed(q[:, :, [t]], layer, start + t) for t in range(40)], axis=2)
    else:
        whole = mixed(q, layer, start)
    for part in parts:
        last = part.stop
        fewer = LayerCache(keys=layer.keys[:3, :last], values=layer.values[:3, :last])
        alone = mixed(q[:1, :, part], fewer, start[:1] + part.start)
        np.testing.assert_array_equal(alone, whole[:1, :, part])


@pytest.mark.parametrize("turning", [4, 16, 64])
@pytest.mark.parametrize("length", [1, 5, 40])
def test_queries_and_keys_turn_as_with_xla(length, turning):
    """Eight query heads, two key/value heads, and rows that begin at different positions."""
    tokens, start = normal(2, length, 12 * 64), jnp.asarray([3, 20], jnp.int32)
    cache = LayerCache(keys=normal(4, 64, 64, seed=1), values=normal(4, 64, 64, seed=2))
    angle = np.random.default_rng(3).uniform(0, 6, (2, 1, length, turning // 2))
    angle = jnp.asarray(np.concatenate([angle, angle], axis=-1), jnp.float32)
    turns = jnp.cos(angle), jnp.sin(angle)
    by_xla, expected = attend(tokens, turns, cache, start)
    with kernels.using("attention"):
        found, layer = attend(tokens, turns, cache, start)
    np.testing.assert_allclose(found, by_xla, atol=3e-6, rtol=0)
    np.testing.assert_allclose(layer.keys, expected.keys, atol=1e-6, rtol=0)
    np.testing.assert_array_equal(layer.values, expected.values)


@pytest.mark.parametrize("start", [60, 61, 63, 100])
def test_tokens_that_would_pass_the_last_slot_are_moved_back(start):
    """As XLA's update of a slice does; what such rows read is of no interest."""
    tokens, place = normal(1, 4, 3 * 16), jnp.asarray([start], jnp.int32)
    cache = LayerCache(keys=normal(1, 64, 16, seed=1), values=normal(1, 64, 16, seed=2))
    _, expected = attend(tokens, None, cache, place)
    with kernels.using("attention"):
        _, found = attend(tokens, None, cache, place)
    np.testing.assert_array_equal(found.keys, expected.keys)
    np.testing.assert_array_equal(found.values, expected.values)


def test_slots_that_no_query_sees_change_nothing():
    q, layer, start = attention_case(3, 1, 16, 2, 24)
    spoilt = LayerCache(
        keys=layer.keys.at[0, 2:].set(jnp.nan), values=layer.values.at[0, 2:].set(jnp.inf)
    )
    ways = [attention(q, c, start, scale=1.0, cap=None, window=None) for c in (layer, spoilt)]
    np.testing.assert_array_equal(*ways)


def test_a_poisoned_key_is_seen_in_the_row_that_reads_it_and_in_no_other():
    q, layer, start = attention_case(3, 1, 16, 1, 24)
    spoilt = LayerCache(keys=layer.keys.at[1, 3].set(jnp.nan), values=layer.values)
    found = np.asarray(attention(q, spoilt, start, scale=1.0, cap=None, window=None))
    assert np.isfinite(found[0]).all()
    assert np.isnan(found[1]).all()
