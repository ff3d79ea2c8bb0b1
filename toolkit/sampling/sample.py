"""One sampling step: logits of a batch in, a token a row and what is known about it out."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from toolkit import kernels
from toolkit.sampling.compiled import sample_by_kernels
from toolkit.sampling.draw import draw, uniforms
from toolkit.sampling.drawn import Drawn, marked, marked_by_cuts
from toolkit.sampling.guide import GuideTables
from toolkit.sampling.logprobs import score
from toolkit.sampling.params import Rows
from toolkit.sampling.smallest import CANDIDATES
from toolkit.sampling.sums import total
from toolkit.sampling.transforms import (
    CUTS,
    EDITS,
    TEMPERATURE,
    Edit,
    History,
    bias_of,
    penalised,
    penalty_of,
    temperature,
)
from toolkit.sampling.truncation import Cutter, Kept
from toolkit.sampling.variant import Variant
from toolkit.sampling.vocabulary import Leaders, highest, largest, no_leaders, parts, summed, taken

PART = 16
"""Rows that a guarded step takes at a time, so that what it reads again and again stays in the
processor's cache."""
TOGETHER = 2
"""Edits under one run-time condition. Each condition that does not hold copies `[B, V]`, which
costs what a neutral edit costs."""


def sample(
    logits: Float[Array, "B V"],
    rows: Rows,
    history: History,
    tables: GuideTables,
    variant: Variant,
) -> Drawn:
    """Draw a token for each row: `[B, V]` float32 -> `Drawn` of `[B]` and `[B, A]`."""
    count = logits.shape[0]
    if variant.guarded and parts() == 1 and kernels.fit("draw", logits):
        return sample_by_kernels(logits, rows, history, tables, variant)
    if not variant.guarded or count <= PART or count % PART:
        return _sample(logits, rows, history, tables, variant)

    def part(first: Int[Array, ""]) -> Drawn:
        mine, own = jax.tree.map(
            lambda x: jax.lax.dynamic_slice_in_dim(x, first, PART), (logits, rows)
        )
        return _sample(mine, own, history.part(first, PART), tables, variant)

    drawn = jax.lax.map(part, jnp.arange(0, count, PART, dtype=jnp.int32))
    return jax.tree.map(lambda x: x.reshape(count, *x.shape[2:]), drawn)


def _sample(
    logits: Float[Array, "B V"],
    rows: Rows,
    history: History,
    tables: GuideTables,
    variant: Variant,
) -> Drawn:
    guard = _Guard(variant)
    width = min(variant.top, logits.shape[1] * parts())
    top_ids = guard.when(
        jnp.any(rows.top > 0),
        lambda: guard.largest(logits, width)[1],
        lambda: no_leaders(logits, width)[1],
    )
    run = _Run(guard, rows, history, tables, top_ids)
    legal, dropped = run.edits(logits, jnp.zeros(top_ids.shape, jnp.int32))
    chosen = run.chosen(legal)
    dropped = marked(dropped, run.at_top(legal), chosen.at(top_ids), TEMPERATURE.name)
    dropped = chosen.marked(run, dropped)
    token, whole = chosen.token, chosen.whole
    top_ids, dropped = guard.when(
        jnp.any(rows.processed & (rows.top > 0)),
        lambda: run.processed(chosen.final(), dropped),
        lambda: (top_ids, dropped),
    )

    def scores(details: bool) -> Callable[[], tuple]:
        def compute():
            own = score(logits, token, top_ids=top_ids, details=details)
            return own, _spread(logits, chosen.final(), whole) if details else _no_spread(token)

        return compute

    own, spread = guard.when(
        jnp.any(rows.details) if variant.details else None, scores(True), scores(False)
    )
    return Drawn(
        token=token,
        scored=own,
        sampling_logprob=jnp.minimum(chosen.final_at(token[:, None])[:, 0] - whole, 0.0),
        sampling_entropy=spread[0],
        support=spread[1],
        kept_mass=spread[2],
        bias=bias_of(rows, token),
        penalty=guard.when(
            jnp.any(penalised(rows)),
            lambda: penalty_of(_at(logits, token) + bias_of(rows, token), rows, history, token),
            lambda: jnp.zeros(token.shape, jnp.float32),
        ),
        top_sampling_logprobs=jnp.minimum(chosen.final_at(top_ids) - whole[:, None], 0.0),
        dropped=dropped,
    )


@dataclasses.dataclass(frozen=True)
class _Chosen:
    """The draw of each row, and what it was made among."""

    token: Int[Array, "B"]
    whole: Float[Array, "B"]
    """Log of the mass of what was left."""
    kept: Sequence[Kept]
    """After each of the cuts, and before the first."""
    tempered: Callable[[], Float[Array, "B V"]]
    at: Callable[[Int[Array, "B A"]], Float[Array, "B A"]]
    """The values of some ids after temperature."""

    def final(self) -> Float[Array, "B V"]:
        """What the token was drawn from; -inf for what was cut."""
        x = self.tempered()
        return jnp.where(self.kept[-1].mask(x), x, -jnp.inf)

    def final_at(self, ids: Int[Array, "B A"]) -> Float[Array, "B A"]:
        """The same for some ids."""
        x = self.at(ids)
        return jnp.where(self.kept[-1].mask(x, ids), x, -jnp.inf)

    def marked(self, run: _Run, marks: Int[Array, "B A"]) -> Int[Array, "B A"]:
        """Note the alternatives that a cut dropped."""
        names = [step.name for step in run.contained(CUTS)[0]]
        return marked_by_cuts(marks, names, self.kept, self.at(run.top_ids), run.top_ids)


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

    def largest(self, x: Float[Array, "B V"], count: int) -> Leaders:
        """The largest logits, in the way that is cheaper."""
        return largest(x, count, by_blocks=self.variant.guarded)


@dataclasses.dataclass(frozen=True)
class _Run:
    """Runs the pipeline and notes which of its steps dropped an alternative."""

    guard: _Guard
    rows: Rows
    history: History
    tables: GuideTables
    top_ids: Int[Array, "B A"]

    def edits(self, logits: Float[Array, "B V"], dropped: Int[Array, "B A"]):
        """Apply the edits that the program contains and a row asks for, all skipped at once if
        none."""
        steps, needs = self.contained(EDITS)

        def apply():
            state = logits, dropped
            for at in range(0, len(steps), TOGETHER):
                some = slice(at, at + TOGETHER)
                work = functools.partial(self._edited, steps[some], state)
                state = self._any_of(needs[some], work, state)
            return state

        return self._any_of(needs, apply, (logits, dropped))

    def _edited(self, steps: Sequence[Edit], state: tuple[Array, Array]) -> tuple[Array, Array]:
        """Logits and marks after these steps."""
        x, marks = state
        for step in steps:
            was = self.at_top(x)
            x = step.apply(x, self.rows, self.history, self.tables)
            marks = marked(marks, was, self.at_top(x), step.name)
        return x, marks

    def chosen(self, legal: Float[Array, "B V"]) -> _Chosen:
        """Temperature, cuts and draw, a pass over all logits at a time."""
        # Cuts compare logits with each other, so all must see the same bits: no fusion makes its
        # own. On a CPU the barrier is gone before fusion, and the end of `temperature` sees to it.
        tempered = jax.lax.optimization_barrier(temperature(legal, self.rows))
        kept = self.cuts(tempered)
        final = jnp.where(kept[-1].mask(tempered), tempered, -jnp.inf)
        token, whole = draw(final, self.uniforms)
        return _Chosen(token, whole, kept, lambda: tempered, lambda ids: taken(tempered, ids))

    @property
    def uniforms(self) -> Float[Array, "B 2"]:
        return uniforms(self.rows.seed, self.rows.choice, self.history.step)

    def cuts(self, logits: Float[Array, "B V"]) -> Sequence[Kept]:
        """What is left after each cut that the program contains, and before the first; all skipped
        at once if no row asks."""
        steps, needs = self.contained(CUTS)
        everything = Kept.all(len(logits))

        def apply():
            ranked = [needed for step, needed in zip(steps, needs, strict=True) if step.ranked]
            leaders = self._any_of(
                ranked,
                lambda: self.guard.largest(logits, CANDIDATES),
                no_leaders(logits, CANDIDATES),
            )
            cutter = Cutter(logits, leaders, self.guard.variant.guarded)
            kept = [everything]
            for step, needed in zip(steps, needs, strict=True):
                kept.append(
                    self.guard.when(
                        needed,
                        lambda kept=kept[-1], step=step: step.narrow(cutter, kept, self.rows),
                        lambda kept=kept[-1]: kept,
                    )
                )
            return kept

        return self._any_of(needs, apply, [everything] * (len(steps) + 1))

    def contained(self, steps: Sequence[Any]) -> tuple[list[Any], list[Bool[Array, ""]]]:
        """The steps that the program contains, and whether a row asks for each."""
        steps = [step for step in steps if step.name in self.guard.variant.stages]
        return steps, [jnp.any(step.active(self.rows, self.history)) for step in steps]

    def _any_of(self, needs: Sequence[Bool[Array, ""]], apply: Callable, otherwise: Any) -> Any:
        if not needs:
            return otherwise
        return self.guard.when(jnp.any(jnp.stack(needs)), apply, lambda: otherwise)

    def at_top(self, x: Float[Array, "B V"]) -> Float[Array, "B A"]:
        """The alternatives' values."""
        return taken(x, self.top_ids)

    def processed(self, final: Float[Array, "B V"], dropped: Int[Array, "B A"]):
        """Alternatives by the final distribution, in the rows that ask for it; nothing dropped
        those."""
        instead = self.rows.processed[:, None]
        ids = self.guard.largest(final, self.top_ids.shape[1])[1]
        return jnp.where(instead, ids, self.top_ids), jnp.where(instead, 0, dropped)


def _spread(logits, final, whole):
    """Entropy, support and kept mass of the sampling distribution; `whole` is its log mass."""
    alive = final > -jnp.inf
    mass = jnp.where(alive, jnp.exp(final - whole[:, None]), 0.0)
    surprisal = jnp.where(mass > 0, jnp.maximum(whole[:, None] - final, 0.0), 0.0)
    own = jnp.exp(logits - highest(jnp.max(logits, axis=-1, keepdims=True)))
    return (
        total(mass * surprisal),
        summed(jnp.sum(alive.astype(jnp.int32), axis=-1)),
        total(jnp.where(alive, own, 0.0)) / total(own),
    )


def _no_spread(token):
    zeros = jnp.zeros(token.shape, jnp.float32)
    return zeros, jnp.zeros(token.shape, jnp.int32), zeros


def _at(x: Float[Array, "B V"], token: Int[Array, "B"]) -> Float[Array, "B"]:
    return taken(x, token[:, None])[:, 0]
