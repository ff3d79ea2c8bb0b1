"""The sampling step of `sample`, by compiled kernels: a row of logits is edited, cut and drawn from
near one core, so that no array of their size is made beside them.

The kernel alone looks at the counts of a row, which are written in place when it has drawn: XLA
copies an array that is written if anything else may still read it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from toolkit import kernels
from toolkit.sampling.draw import uniforms
from toolkit.sampling.drawn import Drawn, marked, marked_by_cuts
from toolkit.sampling.guide import FREE, GuideTables, edge_of
from toolkit.sampling.logprobs import score
from toolkit.sampling.params import Rows
from toolkit.sampling.smallest import Edge
from toolkit.sampling.transforms import (
    CUTS,
    EDITS,
    TEMPERATURE,
    History,
    bias_of,
    temperature,
)
from toolkit.sampling.truncation import Kept
from toolkit.sampling.variant import Variant
from toolkit.sampling.vocabulary import Leaders, largest, no_leaders, taken


@dataclasses.dataclass(frozen=True)
class _Choice:
    """The draw of each row, and what it was made among."""

    token: Int[Array, "B"]
    value: Float[Array, "B"]
    """The token's logit after temperature."""
    whole: Float[Array, "B"]
    """Log of the mass of what was left."""
    top: Float[Array, "B 1"]
    """The largest logit before temperature."""
    kept: Sequence[Kept]
    """Before the first cut, and after each."""
    legal: Float[Array, "B A"]
    """The edited logits of the alternatives."""
    penalty: Float[Array, "B"]
    """What the penalties took off the token's logit."""
    entropy: Float[Array, "B"]
    support: Int[Array, "B"]
    kept_mass: Float[Array, "B"]
    leaders: Leaders
    """The likeliest of what was left, in rows that want them, if they are few."""

    @classmethod
    def of(
        cls,
        logits: Float[Array, "B V"],
        edits: kernels.Edits,
        rows: Rows,
        history: History,
        top_ids: Int[Array, "B A"],
        leading: int,
    ) -> _Choice:
        """Everything up to the draw, `toolkit/kernels/source/draw.c`."""
        uniform = uniforms(rows.seed, rows.choice, history.step)
        sharpness = jnp.where(rows.temperature == 0, 0.0, 1 / rows.temperature)
        given = [sharpness, rows.top_k, rows.top_p, rows.min_p, rows.typical_p]
        given += [jnp.log(rows.min_p), uniform[:, 0], uniform[:, 1], rows.details]
        given += [rows.processed & (rows.top > 0) & (leading > 0)]
        columns = jnp.stack([x.astype(jnp.float32) for x in given], axis=1)
        drawn = kernels.draw(logits, edits, columns, top_ids, leading)
        found, ids = drawn.found, drawn.ids
        everything = Kept.all(len(logits))
        edges = [Edge(key=found[:, at], id=ids[:, at]) for at in range(1, 6)]
        kept = [everything, *(dataclasses.replace(everything, edge=edge) for edge in edges[:4])]
        kept.append(dataclasses.replace(kept[-1], near=edges[4], centre=found[:, 6]))
        return cls(
            token=ids[:, 0],
            value=found[:, 10],
            whole=found[:, 7],
            top=found[:, :1],
            kept=kept,
            legal=drawn.legal,
            penalty=found[:, 11],
            entropy=found[:, 8],
            support=ids[:, 6],
            kept_mass=found[:, 9],
            leaders=(drawn.leaders, drawn.leader_ids),
        )

    def final(
        self, legal: Float[Array, "B N"], rows: Rows, ids: Int[Array, "B N"] | None = None
    ) -> Float[Array, "B N"]:
        """Edited logits after temperature; -inf for what was cut. `ids` None: of the whole
        vocabulary."""
        x = temperature(legal, rows, self.top)
        return jnp.where(self.kept[-1].mask(x, ids), x, -jnp.inf)

    def many_leaders(
        self, logits: Float[Array, "B V"], edits: kernels.Edits, rows: Rows, count: int
    ) -> Leaders:
        """More of the likeliest than the kernel finds, if some row wants them."""
        return jax.lax.cond(
            jnp.any(rows.processed & (rows.top > 0)),
            lambda: largest(self.final(kernels.edit(logits, edits), rows), count, by_blocks=True),
            lambda: no_leaders(logits, count),
        )


def sample_by_kernels(
    logits: Float[Array, "B V"],
    rows: Rows,
    history: History,
    tables: GuideTables,
    variant: Variant,
) -> Drawn:
    """`sample`, of the whole vocabulary on one device."""
    wanted = rows.top > 0
    width = min(variant.top, logits.shape[1])
    top_ids = alternatives(logits, wanted, width)
    edits = edits_of(rows, history, tables)
    few = width <= kernels.MOST_LARGEST
    choice = _Choice.of(logits, edits, rows, history, top_ids, width if few else 0)
    token = choice.token
    final = choice.final(choice.legal, rows, top_ids)

    def marks() -> Int[Array, "B A"]:
        was = taken(logits, top_ids)
        dropped = forbidden(was, choice.legal, top_ids, history, tables)
        tempered = temperature(choice.legal, rows, choice.top)
        dropped = marked(dropped, choice.legal, tempered, TEMPERATURE.name)
        names = [step.name for step in CUTS]
        return marked_by_cuts(dropped, names, choice.kept, tempered, top_ids)

    dropped = jax.lax.cond(jnp.any(wanted), marks, lambda: jnp.zeros(top_ids.shape, jnp.int32))
    instead = rows.processed & wanted
    values, leaders = choice.leaders if few else choice.many_leaders(logits, edits, rows, width)
    top_ids = jnp.where(instead[:, None], leaders, top_ids)
    final = jnp.where(instead[:, None], values, final)
    dropped = jnp.where(instead[:, None], 0, dropped)
    own = score(logits, token, top_ids=top_ids, details=True)
    nothing = jnp.zeros_like(own.entropy)
    return Drawn(
        token=token,
        scored=dataclasses.replace(
            own,
            rank=jnp.where(rows.details, own.rank, 0),
            entropy=jnp.where(rows.details, own.entropy, nothing),
        ),
        sampling_logprob=jnp.minimum(choice.value - choice.whole, 0.0),
        sampling_entropy=choice.entropy,
        support=choice.support,
        kept_mass=choice.kept_mass,
        bias=bias_of(rows, token),
        penalty=choice.penalty,
        top_sampling_logprobs=jnp.minimum(final - choice.whole[:, None], 0.0),
        dropped=dropped,
    )


def alternatives(
    logits: Float[Array, "B V"], wanted: Bool[Array, "B"], count: int
) -> Int[Array, "B A"]:
    """Ids of the largest logits in rows that want them; zeros in the others, or anything where that
    is cheaper."""
    if 0 < count <= kernels.MOST_LARGEST:
        return kernels.largest(logits, count, wanted)[1]
    return jax.lax.cond(
        jnp.any(wanted),
        lambda: largest(logits, count, by_blocks=True)[1],
        lambda: no_leaders(logits, count)[1],
    )


def edits_of(rows: Rows, history: History, tables: GuideTables) -> kernels.Edits:
    """`toolkit.sampling.transforms.EDITS` of a batch."""
    three = [rows.repetition_penalty, rows.frequency_penalty, rows.presence_penalty]
    return kernels.Edits(
        touched=jnp.stack([step.active(rows, history) for step in EDITS]).any(axis=0),
        bias_ids=rows.bias_ids,
        bias_values=rows.bias_values,
        penalties=jnp.stack(three, axis=1),
        prompted=history.prompted,
        counts=history.counts,
        node=history.node,
        first=tables.first,
        allowed=tables.token,
        held_back=history.step < rows.min_tokens,
        stop_ids=rows.stop_ids,
    )


def forbidden(
    was: Float[Array, "B A"],
    now: Float[Array, "B A"],
    ids: Int[Array, "B A"],
    history: History,
    tables: GuideTables,
) -> Int[Array, "B A"]:
    """Which alternatives an edit dropped: the guide, or else the minimum of tokens."""
    node = jnp.broadcast_to(history.node[:, None], ids.shape)
    allowed = (node == FREE) | edge_of(tables, node, ids)[1]
    marks = jnp.zeros(ids.shape, jnp.int32)
    for name, where in (("guide", ~allowed), ("min_tokens", allowed)):
        marks = marked(marks, jnp.where(where, was, -jnp.inf), now, name)
    return marks
