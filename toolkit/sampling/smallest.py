"""The smallest set of tokens that holds a given mass, without sorting the vocabulary.

`top_k`, `top_p` and `typical_p` are the same question: tokens in the order of a key, largest first
and the lower id first among equals; how many are needed until their masses reach a target? Nearly
always the answer lies among the first hundred. They are taken by a partial selection; only the rows
that need more have their threshold found by bisection, one after the other, and that is exact too.

The answer is not a mask but its `Edge`, the last token that is kept: two numbers a row.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from toolkit.sampling.vocabulary import Leaders, highest, ids_of, parts, summed, taken

CANDIDATES = 128
"""Tokens looked at before the bisection; a selection of more costs more than it saves."""
NEAR = 2**24
"""A distance in bits, two octaves, below which the threshold seldom lies under the last leader."""
ROUNDING = 1e-6
"""Relative slack of a target: a mass of 0.5 in float32 may be 0.49999997."""
LAST = 2**31 - 1
"""No id is larger."""


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Edge:
    """The last token that is kept, in the order of falling key, the lower id first among equals."""

    key: Float[Array, "B"]
    id: Int[Array, "B"]

    @classmethod
    def none(cls, rows: int) -> Edge:
        """Keeps every token."""
        return cls(
            key=jnp.full((rows,), -jnp.inf, jnp.float32), id=jnp.full((rows,), LAST, jnp.int32)
        )

    def keeps(self, keys: Float[Array, "B N"], ids: Int[Array, "_ N"]) -> Bool[Array, "B N"]:
        """Which of these tokens are not behind the edge."""
        key, last = self.key[:, None], self.id[:, None]
        return (keys > key) | ((keys == key) & (ids <= last))

    def nearer(self, other: Edge) -> Edge:
        """Of each row's two edges the one that keeps less."""
        ahead = (other.key > self.key) | ((other.key == self.key) & (other.id < self.id))
        return other.where(ahead, self)

    def where(self, condition: Bool[Array, "B"], other: Edge) -> Edge:
        """This edge in some rows and the other one in the others."""
        return jax.tree.map(lambda a, b: jnp.where(condition, a, b), self, other)


def smallest_set(
    order: Callable[[Any], tuple[Float[Array, "B V"], Float[Array, "B V"]]],
    data: Any,
    target: Float[Array, "B"],
    leaders: Leaders,
    *,
    guarded: bool,
) -> Edge:
    """Edge of the shortest run of tokens, by falling key, whose mass is at least `target`: `[B]`.

    `order(data)` gives keys and masses `[B, V]` of the rows in `data`, whose leaves all begin with
    the axis of rows; it is called for single rows too, so that a row's bits depend on that row
    alone. `leaders` are the largest of the keys. At least one token is kept; a target beyond the
    whole mass keeps all. Not `guarded`: no run-time choice, every row is bisected (GPU).
    """
    keys, mass = order(data)
    goal = target * (1 - ROUNDING)
    edge, enough = _among_leaders(mass, goal, leaders)
    if leaders[0].shape[1] == keys.shape[1] * parts():
        return edge
    if not guarded:
        return edge.where(enough, _by_bisection(keys, mass, goal))
    queue = jnp.argsort(enough, stable=True)  # rows that lack something come first

    def mend(i, edge: Edge) -> Edge:
        row = queue[i]
        mine, own, last = jax.tree.map(
            lambda x: jax.lax.dynamic_slice_in_dim(x, row, 1), (data, goal, leaders[0][:, -1])
        )
        found = _by_bisection(*order(mine), own, last)
        return jax.tree.map(lambda whole, one: whole.at[row].set(one[0]), edge, found)

    return jax.lax.fori_loop(0, jnp.sum((~enough).astype(jnp.int32)), mend, edge)


def _among_leaders(mass, goal, leaders: Leaders) -> tuple[Edge, Bool[Array, "B"]]:
    """The edge if it lies among the leaders, and whether it does."""
    values, ids = leaders
    held = jnp.cumsum(taken(mass, ids), axis=1)
    short = jnp.sum((held < goal[:, None]).astype(jnp.int32), axis=1)
    at = jnp.minimum(short, values.shape[1] - 1)[:, None]
    key = jnp.take_along_axis(values, at, axis=1)[:, 0]
    last = jnp.take_along_axis(ids, at, axis=1)[:, 0]
    return Edge(key=key, id=last), short < values.shape[1]


def _by_bisection(keys, mass, goal, last=None) -> Edge:
    """The edge of any row: bisect on the bits of the key, then, for equal keys, on the id.

    With `last`, a key of each row that the edge is not above, it stops when it has found it; a
    run-time choice.
    """
    order = ordered_bits(keys)
    low = jnp.full(goal.shape, jnp.iinfo(jnp.int32).min, jnp.int32)
    high = highest(jnp.max(order, axis=1))

    def mass_where(mask):
        return summed(folded_sum(jnp.where(mask, mass, 0.0)))

    def reaches(threshold):
        return mass_where(order >= threshold[:, None]) >= goal

    def halve(ends):
        low, high = ends
        middle = (low >> 1) + (high >> 1) + ((low | high) & 1)
        ok = reaches(middle)
        return jnp.where(ok, middle, low), jnp.where(ok, high, middle - 1)

    # Invariant: `low` reaches the goal or is the least key of all, `high + 1` does not reach it.
    if last is None:
        threshold, _ = jax.lax.fori_loop(0, 32, lambda _, ends: halve(ends), (low, high))
    else:
        high = jnp.minimum(high, ordered_bits(last[:, None])[:, 0])
        near = jnp.maximum(high, low + NEAR) - NEAR
        low = jnp.where(reaches(near), near, low)
        threshold, _ = jax.lax.while_loop(
            lambda ends: jnp.any(ends[0] < ends[1]), halve, (low, high)
        )
    equal = order == threshold[:, None]
    above = mass_where(order > threshold[:, None])
    ids = ids_of(keys)

    def halve_ids(_, ends):
        first, last = ends
        middle = (first + last) // 2
        within = equal & (ids <= middle[:, None])
        ok = above + mass_where(within) >= goal
        return jnp.where(ok, first, middle + 1), jnp.where(ok, middle, last)

    vocab = keys.shape[1] * parts()
    start = jnp.zeros_like(threshold), jnp.full_like(threshold, vocab - 1)
    rounds = max(vocab - 1, 1).bit_length()
    if last is not None:
        tied = jnp.any(summed(jnp.sum(equal.astype(jnp.int32), axis=1)) > 1)
        rounds = jnp.where(tied, rounds, 0)
    _, last = jax.lax.fori_loop(0, rounds, halve_ids, start)
    return Edge(key=highest(jnp.max(jnp.where(equal, keys, -jnp.inf), axis=1)), id=last)


def folded_sum(x: Float[Array, "B V"]) -> Float[Array, "B"]:
    """The sum of each row. Its eighths are added first: on CPU a plain sum adds one by one."""
    for _ in range(3 if x.shape[1] % 8 == 0 else 0):
        half = x.shape[1] // 2
        x = x[:, :half] + x[:, half:]
    return jnp.sum(x, axis=1)


def ordered_bits(x: Float[Array, "B V"]) -> Int[Array, "B V"]:
    """Integers in the order of the floats: `[B, V]` float32 -> int32. -0.0 counts as 0.0."""
    bits = jax.lax.bitcast_convert_type(jnp.where(x == 0, 0.0, x), jnp.int32)
    return jnp.where(bits < 0, bits ^ jnp.int32(0x7FFF_FFFF), bits)
