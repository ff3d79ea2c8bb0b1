"""Which tokens may still be drawn: truncations, each a cut at the end of an order of the tokens.

A cut does not touch the logits. It narrows `Kept`, a few numbers a row from which the mask follows,
so that what no row asks for is skipped without a copy of `[B, V]`. Logits come after `temperature`:
the largest of a row is 0. A row whose parameter is neutral keeps what it kept.

Sources: top_k (Fan et al. 2018, arXiv 1805.04833), top_p (Holtzman et al. 2020, arXiv 1904.09751),
min_p (Nguyen et al. 2024, arXiv 2407.01082), typical_p (Meister et al. 2022, arXiv 2202.00666).
"""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from toolkit.sampling.params import Rows
from toolkit.sampling.smallest import CANDIDATES, Edge, smallest_set
from toolkit.sampling.sums import total
from toolkit.sampling.vocabulary import Leaders, ids_of, largest, lowest, parts


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Kept:
    """The tokens of each row that are left: those above an edge, and near enough to a centre."""

    edge: Edge
    """In the order of falling logit."""
    centre: Float[Array, "B"]
    """The logit of the most typical token there could be."""
    near: Edge
    """In the order of growing distance from the centre."""

    @classmethod
    def all(cls, rows: int) -> Kept:
        """Every token of every row."""
        zeros = jnp.zeros((rows,), jnp.float32)
        return cls(edge=Edge.none(rows), centre=zeros, near=Edge.none(rows))

    def mask(
        self, logits: Float[Array, "B N"], ids: Int[Array, "_ N"] | None = None
    ) -> Bool[Array, "B N"]:
        """Which of these tokens are left; `ids` None means the whole vocabulary, in order."""
        if ids is None:
            ids = ids_of(logits)
        near = self.near.keeps(nearness(logits, self.centre), ids)
        return self.edge.keeps(logits, ids) & near & (logits > -jnp.inf)


def nearness(logits: Float[Array, "B N"], centre: Float[Array, "B"]) -> Float[Array, "B N"]:
    """Minus the distance from the centre."""
    return -jnp.abs(logits - centre[:, None])


@dataclasses.dataclass(frozen=True)
class Cutter:
    """The logits of a batch and what all cuts of it share."""

    logits: Float[Array, "B V"]
    leaders: Leaders
    """The most probable tokens, in order."""
    guarded: bool
    """Whether a run-time choice may skip work."""

    @classmethod
    def of(cls, logits: Float[Array, "B V"], *, guarded: bool = True) -> Cutter:
        """With the leaders of these logits."""
        return cls(logits, largest(logits, CANDIDATES, by_blocks=guarded), guarded)


def greedy(cutter: Cutter, kept: Kept, rows: Rows) -> Kept:
    """Rows with T = 0 keep the largest logit only, the lowest id among equals."""
    first = first_index(cutter.logits == 0)
    edge = Edge(key=jnp.zeros_like(kept.edge.key), id=first)
    return _cut(kept, rows.temperature == 0, edge)


def top_k(cutter: Cutter, kept: Kept, rows: Rows) -> Kept:
    """Keep the k largest logits, among equals the lower ids; 0 keeps all."""
    edge = smallest_set(
        lambda logits: (logits, jnp.ones_like(logits)),
        cutter.logits,
        rows.top_k.astype(jnp.float32),
        cutter.leaders,
        guarded=cutter.guarded,
    )
    return _cut(kept, rows.top_k > 0, edge)


def top_p(cutter: Cutter, kept: Kept, rows: Rows) -> Kept:
    """Keep the smallest set of most probable tokens whose mass is at least p, and at least one."""
    whole = total(_mass(cutter.logits, kept))
    edge = smallest_set(
        lambda data: (data[0], _mass(*data)),
        (cutter.logits, kept),
        rows.top_p * whole,
        cutter.leaders,
        guarded=cutter.guarded,
    )
    return _cut(kept, rows.top_p < 1, edge)


def min_p(cutter: Cutter, kept: Kept, rows: Rows) -> Kept:
    """Keep tokens with at least `min_p` times the largest probability; 0 keeps all."""
    edge = Edge(key=jnp.log(rows.min_p), id=Edge.none(len(rows.min_p)).id)
    return _cut(kept, rows.min_p > 0, edge)


def typical_p(cutter: Cutter, kept: Kept, rows: Rows) -> Kept:
    """Keep the smallest set of tokens, those nearest to the entropy first, whose mass is at least
    p."""
    logits = cutter.logits
    mass = _mass(logits, kept)
    whole = total(mass)
    centre = total(jnp.where(mass > 0, mass * logits, 0.0)) / whole  # log of the mass - entropy

    def order(data):
        logits, kept, centre = data
        mass = _mass(logits, kept)
        return jnp.where(mass > 0, nearness(logits, centre), -jnp.inf), mass

    data = logits, kept, centre
    near = smallest_set(
        order,
        data,
        rows.typical_p * whole,
        largest(order(data)[0], CANDIDATES, by_blocks=cutter.guarded),
        guarded=cutter.guarded,
    )
    active = rows.typical_p < 1
    return dataclasses.replace(
        kept, centre=jnp.where(active, centre, kept.centre), near=near.where(active, kept.near)
    )


def first_index(mask: Bool[Array, "B V"]) -> Int[Array, "B"]:
    """Lowest id that is True; V where none is."""
    vocab = mask.shape[1] * parts()
    return lowest(jnp.min(jnp.where(mask, ids_of(mask), vocab), axis=-1))


def _cut(kept: Kept, active: Bool[Array, "B"], edge: Edge) -> Kept:
    """Move the edge in rows where this is active."""
    return dataclasses.replace(kept, edge=kept.edge.nearer(edge).where(active, kept.edge))


def _mass(logits: Float[Array, "B V"], kept: Kept) -> Float[Array, "B V"]:
    """Unnormalised probabilities of the tokens that are left, the largest 1; 0 for the others."""
    return jnp.where(kept.mask(logits), jnp.exp(logits), 0.0)
