"""How logits become the distribution that a token is drawn from: one function each, one order.

Up to the temperature a transform maps `[B, V]` logits to `[B, V]` logits; a token that may not be
drawn is -inf. The truncations that follow narrow what is kept (see `truncation`). A row whose
parameter is neutral is left as it is, so the parameters never choose a program.

Sources: repetition_penalty (Keskar et al. 2019, arXiv 1909.05858), the other penalties and the bias
(OpenAI API reference).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from toolkit import kernels
from toolkit.sampling.guide import GuideTables, allowed
from toolkit.sampling.params import Rows
from toolkit.sampling.truncation import Cutter, Kept, greedy, min_p, top_k, top_p, typical_p
from toolkit.sampling.vocabulary import columns_of, highest, parts, taken


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class History:
    """What a row has seen: `[B]` and `[B, V]` arrays that a step brings up to date."""

    step: Int[Array, "B"]
    """Tokens generated so far."""
    counts: Int[Array, "B V"]
    """Occurrences of each token in the completion."""
    prompted: Bool[Array, "B V"]
    """Whether a token occurs in the prompt."""
    node: Int[Array, "B"]
    """Where the row stands in the guide; 0 is free."""
    first: Int[Array, ""] | None = None
    """The row of `counts` and `prompted` that the others begin with; None: they are as many."""

    def part(self, first: Int[Array, ""], count: int) -> History:
        """Some consecutive rows. What is as wide as the vocabulary is cut out when it is asked for:
        mostly nobody asks."""
        step, node = (jax.lax.dynamic_slice_in_dim(x, first, count) for x in (self.step, self.node))
        return dataclasses.replace(self, step=step, node=node, first=first)

    def counted(self, token: Int[Array, "B"], more: Int[Array, "B"]) -> Int[Array, "B V"]:
        """The counts with `more` of a token in each row."""
        counts, column = self.counts, columns_of(token, self.counts.shape[1])
        if parts() == 1 and kernels.fit("count"):
            return kernels.count(counts, column, more)
        return counts.at[jnp.arange(len(token), dtype=jnp.int32), column].add(more)

    def seen(self) -> tuple[Bool[Array, "B V"], Int[Array, "B V"]]:
        """`prompted` and `counts` of these rows."""
        if self.first is None:
            return self.prompted, self.counts
        first, count = self.first, len(self.step)
        return (
            jax.lax.dynamic_slice_in_dim(self.prompted, first, count),
            jax.lax.dynamic_slice_in_dim(self.counts, first, count),
        )


def logit_bias(logits: Float[Array, "B V"], rows: Rows) -> Float[Array, "B V"]:
    """Add each row's bias to the logits of its ids. Additive: -100 is strong, not minus
    infinity."""
    vocab = logits.shape[1]
    column = jnp.where(rows.bias_ids < 0, vocab, columns_of(rows.bias_ids, vocab))
    return logits.at[_row_index(column), column].add(rows.bias_values, mode="drop")


def bias_of(rows: Rows, token: Int[Array, "B"]) -> Float[Array, "B"]:
    """The bias of one token a row, 0 where it has none: `[B]` -> `[B]`."""
    return jnp.sum(jnp.where(rows.bias_ids == token[:, None], rows.bias_values, 0.0), axis=-1)


def penalties(logits: Float[Array, "B V"], rows: Rows, history: History) -> Float[Array, "B V"]:
    """Repetition penalty over prompt and completion, then frequency and presence over the
    completion.

    A repetition penalty r divides positive logits and multiplies negative ones by r; then
    `frequency * count` and, for count > 0, `presence` are subtracted. 1, 0 and 0 change nothing.
    """
    return _penalised(logits, rows, *history.seen())


def penalised(rows: Rows) -> Bool[Array, "B"]:
    """Which rows have a penalty."""
    taken_off = (rows.frequency_penalty != 0) | (rows.presence_penalty != 0)
    return jnp.logical_or(rows.repetition_penalty != 1, taken_off)


def penalty_of(
    value: Float[Array, "B"], rows: Rows, history: History, token: Int[Array, "B"]
) -> Float[Array, "B"]:
    """What the penalties take off the logit of one token a row; 0 where it is -inf: `[B]` -> `[B]`.

    `value` is the token's logit before them.
    """
    seen, count = (taken(x, token[:, None]) for x in history.seen())
    after = _penalised(value[:, None], rows, seen, count)[:, 0]
    return jnp.where(value > -jnp.inf, value - after, 0.0)


def _penalised(
    logits: Float[Array, "B N"],
    rows: Rows,
    prompted: Bool[Array, "B N"],
    counts: Int[Array, "B N"],
) -> Float[Array, "B N"]:
    repeat = rows.repetition_penalty[:, None]
    seen = prompted | (counts > 0)
    scaled = jnp.where(logits > 0, logits / repeat, logits * repeat)
    logits = jnp.where(seen & (repeat != 1), scaled, logits)
    count = counts.astype(jnp.float32)
    logits = logits - rows.frequency_penalty[:, None] * count
    return logits - jnp.where(count > 0, rows.presence_penalty[:, None], 0.0)


def guide(
    logits: Float[Array, "B V"], history: History, tables: GuideTables
) -> Float[Array, "B V"]:
    """Keep the tokens that lead to an allowed string; rows at node 0 keep all.

    Where every allowed token is impossible for the model (-inf), all of them become equally likely.
    """
    mask = allowed(tables, history.node, logits.shape[1])
    kept = jnp.where(mask, logits, -jnp.inf)
    lost = highest(jnp.max(kept, axis=-1, keepdims=True)) == -jnp.inf
    return jnp.where(lost & mask, 0.0, kept)


def min_tokens(logits: Float[Array, "B V"], rows: Rows, history: History) -> Float[Array, "B V"]:
    """Hold stop ids back while a row has fewer tokens than its minimum.

    Where nothing else can be drawn (the guide or the model leaves stop ids only), they are not held
    back: an early end is better than a token that is ruled out.
    """
    early = (history.step < rows.min_tokens)[:, None] & (rows.stop_ids >= 0)
    vocab = logits.shape[1]
    column = jnp.where(early, columns_of(rows.stop_ids, vocab), vocab)
    held = logits.at[_row_index(column), column].set(-jnp.inf, mode="drop")
    nothing = highest(jnp.max(held, axis=-1, keepdims=True)) == -jnp.inf
    return jnp.where(nothing, logits, held)


def temperature(
    logits: Float[Array, "B V"], rows: Rows, top: Float[Array, "B 1"] | None = None
) -> Float[Array, "B V"]:
    """Subtract the largest logit, then divide by T; the largest becomes 0. `top` is the largest of
    the row where these are some of its logits only.

    A tiny T sends the others to -inf without a NaN. The minimum with 0 changes no number: it keeps
    the compiler from drawing the division into a subtraction that follows, which would round other
    bits in one place than in another, while cuts compare the numbers of two places.
    """
    t = rows.temperature[:, None]
    if top is None:
        top = highest(jnp.max(logits, axis=-1, keepdims=True))
    return jnp.minimum((logits - top) * (1 / jnp.where(t == 0, 1.0, t)), 0.0)


def _row_index(ids: Int[Array, "B M"]) -> Int[Array, "B M"]:
    return jnp.broadcast_to(jnp.arange(ids.shape[0], dtype=jnp.int32)[:, None], ids.shape)


@dataclasses.dataclass(frozen=True)
class Edit:
    """A step of the pipeline that changes logits: its name, which rows it changes, what it does."""

    name: str
    active: Callable[[Rows, History], Bool[Array, "B"]]
    apply: Callable[[Float[Array, "B V"], Rows, History, GuideTables], Float[Array, "B V"]]


@dataclasses.dataclass(frozen=True)
class Cut:
    """A step of the pipeline that drops tokens and leaves the logits of the others as they are."""

    name: str
    active: Callable[[Rows, History], Bool[Array, "B"]]
    narrow: Callable[[Cutter, Kept, Rows], Kept]
    ranked: bool = False
    """Whether it looks at the leaders."""

    def apply(
        self, logits: Float[Array, "B V"], rows: Rows, history: History, tables: GuideTables
    ) -> Float[Array, "B V"]:
        """The cut alone, as an edit: what it drops is -inf."""
        kept = self.narrow(Cutter.of(logits), Kept.all(len(logits)), rows)
        return jnp.where(kept.mask(logits), logits, -jnp.inf)


EDITS: tuple[Edit, ...] = (
    Edit(
        "logit_bias", lambda r, h: jnp.any(r.bias_ids >= 0, -1), lambda x, r, h, g: logit_bias(x, r)
    ),
    Edit(
        "penalties",
        lambda r, h: penalised(r),
        lambda x, r, h, g: penalties(x, r, h),
    ),
    Edit("guide", lambda r, h: h.node > 0, lambda x, r, h, g: guide(x, h, g)),
    Edit("min_tokens", lambda r, h: h.step < r.min_tokens, lambda x, r, h, g: min_tokens(x, r, h)),
)
TEMPERATURE = Edit(
    "temperature", lambda r, h: r.temperature >= 0, lambda x, r, h, g: temperature(x, r)
)
CUTS: tuple[Cut, ...] = (
    Cut("temperature", lambda r, h: r.temperature == 0, greedy),
    Cut("top_k", lambda r, h: r.top_k > 0, top_k, ranked=True),
    Cut("top_p", lambda r, h: r.top_p < 1, top_p, ranked=True),
    Cut("min_p", lambda r, h: r.min_p > 0, min_p),
    Cut("typical_p", lambda r, h: r.typical_p < 1, typical_p),
)
PIPELINE = (*EDITS, TEMPERATURE, *CUTS)
"""The order of the contract. A request changes the distribution in these ways and in no other."""
