"""One sampling step: logits of a batch in, a token a row and what is known about it out."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from toolkit.sampling.draw import draw, uniforms
from toolkit.sampling.guide import GuideTables
from toolkit.sampling.logprobs import Scored, score
from toolkit.sampling.params import Rows
from toolkit.sampling.smallest import largest
from toolkit.sampling.sums import total
from toolkit.sampling.transforms import PIPELINE, History, Stage, bias_of

TOP = 20
"""Alternatives that every program can report; more make another program."""
DROPPED_BY: tuple[str | None, ...] = (None, *(stage.name for stage in PIPELINE))
"""What the numbers in `Drawn.dropped` mean."""


@dataclasses.dataclass(frozen=True)
class Variant:
    """Which work a compiled step contains.

    A guarded step contains all of it and skips at run time what no row asks for: one program for
    every mix of requests (CPU). On a GPU a run-time choice stalls the device, so there a step holds
    what its batch needs and nothing is guarded.
    """

    stages: frozenset[str] = frozenset(stage.name for stage in PIPELINE)
    top: int = TOP
    details: bool = True
    guarded: bool = True


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Drawn:
    """A drawn token of each row and what is known about it. Fields not asked for are 0."""

    token: Int[Array, "*B"]
    scored: Scored
    """The model's own view: before bias, penalties, temperature and truncation."""
    sampling_logprob: Float[Array, "*B"]
    """Under the distribution that the token was drawn from."""
    sampling_entropy: Float[Array, "*B"]
    support: Int[Array, "*B"]
    """Tokens that could have been drawn."""
    kept_mass: Float[Array, "*B"]
    """The model's own mass of those tokens."""
    bias: Float[Array, "*B"]
    """What `logit_bias` added to the token's logit."""
    penalty: Float[Array, "*B"]
    """What the penalties took off it; negative where they reward."""
    top_sampling_logprobs: Float[Array, "*B A"]
    dropped: Int[Array, "*B A"]
    """What dropped an alternative, an index of `DROPPED_BY`; 0 also where the model itself rules it
    out."""


def sample(
    logits: Float[Array, "B V"],
    rows: Rows,
    history: History,
    tables: GuideTables,
    variant: Variant,
) -> Drawn:
    """Draw a token for each row: `[B, V]` float32 -> `Drawn` of `[B]` and `[B, A]`."""
    guard = _Guard(variant)
    width = min(variant.top, logits.shape[1])
    top_ids = guard.when(
        jnp.any(rows.top > 0),
        lambda: largest(logits, width)[1],
        lambda: jnp.zeros((logits.shape[0], width), jnp.int32),
    )
    run = _Run(guard, rows, history, tables, top_ids)
    dropped = jnp.zeros(top_ids.shape, jnp.int32)
    biased, dropped = run.stages(PIPELINE[:1], logits, dropped)
    edited, dropped = run.stages(PIPELINE[1:2], biased, dropped)
    legal, dropped = run.stages(PIPELINE[2:4], edited, dropped)
    tempered = PIPELINE[4].apply(legal, rows, history, tables)
    dropped = run.marked(dropped, legal, tempered, PIPELINE[4].name)
    final, dropped = run.stages(PIPELINE[5:], tempered, dropped)
    top_ids, dropped = guard.when(
        jnp.any(rows.processed & (rows.top > 0)),
        lambda: run.processed(final, dropped),
        lambda: (top_ids, dropped),
    )
    token, whole = draw(final, uniforms(rows.seed, rows.choice, history.step))

    def scores(details: bool) -> Callable[[], tuple]:
        def compute():
            own = score(logits, token, top_ids=top_ids, details=details)
            return own, _spread(logits, final, whole) if details else _no_spread(token)

        return compute

    own, spread = guard.when(
        jnp.any(rows.details) if variant.details else None, scores(True), scores(False)
    )
    return Drawn(
        token=token,
        scored=own,
        sampling_logprob=jnp.minimum(_at(final, token) - whole, 0.0),
        sampling_entropy=spread[0],
        support=spread[1],
        kept_mass=spread[2],
        bias=bias_of(rows, token),
        penalty=_taken(_at(biased, token), _at(edited, token)),
        top_sampling_logprobs=jnp.minimum(
            jnp.take_along_axis(final, top_ids, axis=1) - whole[:, None], 0.0
        ),
        dropped=dropped,
    )


@dataclasses.dataclass(frozen=True)
class _Guard:
    """Does a piece of work always, never or when a run-time condition says so."""

    variant: Variant

    def when(self, needed: Any, work: Callable, otherwise: Callable) -> Any:
        if needed is None:
            return otherwise()
        if not self.variant.guarded:
            return work()
        return jax.lax.cond(needed, work, otherwise)


@dataclasses.dataclass(frozen=True)
class _Run:
    """Runs stages of the pipeline and notes which of them dropped an alternative."""

    guard: _Guard
    rows: Rows
    history: History
    tables: GuideTables
    top_ids: Int[Array, "B A"]

    def stages(self, stages: Sequence[Stage], x: Float[Array, "B V"], dropped: Int[Array, "B A"]):
        """Apply the stages that the program contains and a row asks for, all skipped at once if
        none."""
        kept = [stage for stage in stages if stage.name in self.guard.variant.stages]
        needs = [jnp.any(stage.active(self.rows, self.history)) for stage in kept]

        def apply():
            y, marks = x, dropped
            for stage, needed in zip(kept, needs, strict=True):
                before = y
                y = self.guard.when(
                    needed,
                    lambda y=y, stage=stage: stage.apply(y, self.rows, self.history, self.tables),
                    lambda y=y: y,
                )
                marks = self.marked(marks, before, y, stage.name)
            return y, marks

        if not kept:
            return x, dropped
        return self.guard.when(jnp.any(jnp.stack(needs)), apply, lambda: (x, dropped))

    def marked(self, marks: Int[Array, "B A"], before, after, name: str) -> Int[Array, "B A"]:
        """Note the alternatives that this stage dropped: above -inf before it and -inf after."""
        was, now = (jnp.take_along_axis(x, self.top_ids, axis=1) for x in (before, after))
        return jnp.where((was > -jnp.inf) & (now == -jnp.inf), DROPPED_BY.index(name), marks)

    def processed(self, final: Float[Array, "B V"], dropped: Int[Array, "B A"]):
        """Alternatives by the final distribution, in the rows that ask for it; nothing dropped
        those."""
        instead = self.rows.processed[:, None]
        ids = largest(final, self.top_ids.shape[1])[1]
        return jnp.where(instead, ids, self.top_ids), jnp.where(instead, 0, dropped)


def _spread(logits, final, whole):
    """Entropy, support and kept mass of the sampling distribution; `whole` is its log mass."""
    alive = final > -jnp.inf
    mass = jnp.where(alive, jnp.exp(final - whole[:, None]), 0.0)
    surprisal = jnp.where(mass > 0, jnp.maximum(whole[:, None] - final, 0.0), 0.0)
    own = jnp.exp(logits - jnp.max(logits, axis=-1, keepdims=True))
    return (
        total(mass * surprisal),
        jnp.sum(alive.astype(jnp.int32), axis=-1),
        total(jnp.where(alive, own, 0.0)) / total(own),
    )


def _no_spread(token):
    zeros = jnp.zeros(token.shape, jnp.float32)
    return zeros, jnp.zeros(token.shape, jnp.int32), zeros


def _taken(before: Float[Array, "B"], after: Float[Array, "B"]) -> Float[Array, "B"]:
    """How much less; 0 where there was nothing to take from."""
    return jnp.where(before > -jnp.inf, before - after, 0.0)


def _at(x: Float[Array, "B V"], token: Int[Array, "B"]) -> Float[Array, "B"]:
    return jnp.take_along_axis(x, token[:, None], axis=1)[:, 0]
