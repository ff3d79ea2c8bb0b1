"""The smallest set of tokens that holds a given mass, without sorting the vocabulary.

`top_k`, `top_p` and `typical_p` are the same question: tokens in the order of a key, largest first
and the lower id first among equals; how many are needed until their masses reach a target? Nearly
always the answer lies among the first hundred. They are taken by a partial selection; only when a
row needs more is its threshold found by bisection, and that is exact too.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from toolkit.sampling.sums import total

CANDIDATES = 128
"""Tokens looked at before the bisection; a selection of more costs more than it saves."""
ROUNDING = 1e-6
"""Relative slack of a target: a mass of 0.5 in float32 may be 0.49999997."""


def smallest_set(
    keys: Float[Array, "B V"], mass: Float[Array, "B V"], target: Float[Array, "B"]
) -> Bool[Array, "B V"]:
    """Mask of the shortest run of tokens, by falling key, whose mass is at least `target`.

    `[B, V]`, `[B, V]`, `[B]` -> `[B, V]`. At least one token is kept; a target beyond the whole
    mass keeps all. Equal keys: the lower id comes first.
    """
    goal = target * (1 - ROUNDING)
    value, last, enough = _among_candidates(keys, mass, goal)
    value, last = jax.lax.cond(
        jnp.all(enough),
        lambda: (value, last),
        lambda: _choose(enough, (value, last), _by_bisection(keys, mass, goal)),
    )
    ids = jnp.arange(keys.shape[1], dtype=jnp.int32)[None, :]
    return (keys > value[:, None]) | ((keys == value[:, None]) & (ids <= last[:, None]))


def _among_candidates(keys, mass, goal):
    """The last token that is kept, as (key, id), and whether it lies among the candidates."""
    values, ids = largest(keys, min(CANDIDATES, keys.shape[1]))
    held = jnp.cumsum(jnp.take_along_axis(mass, ids, axis=1), axis=1)
    short = jnp.sum((held < goal[:, None]).astype(jnp.int32), axis=1)
    at = jnp.minimum(short, values.shape[1] - 1)[:, None]
    value = jnp.take_along_axis(values, at, axis=1)[:, 0]
    last = jnp.take_along_axis(ids, at, axis=1)[:, 0]
    whole = values.shape[1] == keys.shape[1]
    return value, last, (short < values.shape[1]) | whole


def _by_bisection(keys, mass, goal):
    """The same pair for any row: bisect on the bits of the key, then, for equal keys, on the id."""
    order = ordered_bits(keys)
    low = jnp.full(goal.shape, jnp.iinfo(jnp.int32).min, jnp.int32)
    high = jnp.max(order, axis=1)

    def reaches(threshold):
        return total(jnp.where(order >= threshold[:, None], mass, 0.0)) >= goal

    def halve(_, ends):
        low, high = ends
        middle = (low >> 1) + (high >> 1) + ((low | high) & 1)
        ok = reaches(middle)
        return jnp.where(ok, middle, low), jnp.where(ok, high, middle - 1)

    # Invariant: `low` reaches the goal or is the least key of all, `high + 1` does not reach it.
    threshold, _ = jax.lax.fori_loop(0, 32, halve, (low, high))
    equal = order == threshold[:, None]
    above = total(jnp.where(order > threshold[:, None], mass, 0.0))
    ids = jnp.arange(keys.shape[1], dtype=jnp.int32)[None, :]

    def halve_ids(_, ends):
        first, last = ends
        middle = (first + last) // 2
        within = equal & (ids <= middle[:, None])
        ok = above + total(jnp.where(within, mass, 0.0)) >= goal
        return jnp.where(ok, first, middle + 1), jnp.where(ok, middle, last)

    start = jnp.zeros_like(threshold), jnp.full_like(threshold, keys.shape[1] - 1)
    rounds = max(keys.shape[1] - 1, 1).bit_length()
    tied = jnp.any(jnp.sum(equal.astype(jnp.int32), axis=1) > 1)
    _, last = jax.lax.cond(
        tied, lambda: jax.lax.fori_loop(0, rounds, halve_ids, start), lambda: start
    )
    value = jnp.max(jnp.where(equal, keys, -jnp.inf), axis=1)
    return value, last


def _choose(first: Bool[Array, "B"], a, b):
    return jax.tree.map(lambda x, y: jnp.where(first, x, y), a, b)


def largest(x: Float[Array, "B V"], count: int) -> tuple[Float[Array, "B A"], Int[Array, "B A"]]:
    """The `count` largest and their ids, the lower id first among equals: `[B, V]` -> `[B, A]`.

    A selection alone would put -0.0 behind 0.0.
    """
    values, ids = jax.lax.top_k(jnp.where(x == 0, 0.0, x), count)
    return values, ids


def ordered_bits(x: Float[Array, "B V"]) -> Int[Array, "B V"]:
    """Integers in the order of the floats: `[B, V]` float32 -> int32. -0.0 counts as 0.0."""
    bits = jax.lax.bitcast_convert_type(jnp.where(x == 0, 0.0, x), jnp.int32)
    return jnp.where(bits < 0, bits ^ jnp.int32(0x7FFF_FFFF), bits)
