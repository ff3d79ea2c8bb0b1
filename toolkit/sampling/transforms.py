"""How logits become the distribution that a token is drawn from: one function each, one order.

Every transform maps `[B, V]` logits to `[B, V]` logits; a token that may not be drawn is -inf. A
row whose parameter is neutral is left as it is, so the parameters never choose a program.

Sources: top_k (Fan et al. 2018, arXiv 1805.04833), top_p (Holtzman et al. 2020, arXiv 1904.09751),
min_p (Nguyen et al. 2024, arXiv 2407.01082), typical_p (Meister et al. 2022, arXiv 2202.00666),
repetition_penalty (Keskar et al. 2019, arXiv 1909.05858), the other penalties and the bias (OpenAI
API reference).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from toolkit.sampling.guide import GuideTables, allowed
from toolkit.sampling.params import Rows
from toolkit.sampling.smallest import smallest_set
from toolkit.sampling.sums import total


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


def logit_bias(logits: Float[Array, "B V"], rows: Rows) -> Float[Array, "B V"]:
    """Add each row's bias to the logits of its ids. Additive: -100 is strong, not minus
    infinity."""
    ids = jnp.where(rows.bias_ids < 0, logits.shape[1], rows.bias_ids)
    return logits.at[_row_index(ids), ids].add(rows.bias_values, mode="drop")


def bias_of(rows: Rows, token: Int[Array, "B"]) -> Float[Array, "B"]:
    """The bias of one token a row, 0 where it has none: `[B]` -> `[B]`."""
    return jnp.sum(jnp.where(rows.bias_ids == token[:, None], rows.bias_values, 0.0), axis=-1)


def penalties(logits: Float[Array, "B V"], rows: Rows, history: History) -> Float[Array, "B V"]:
    """Repetition penalty over prompt and completion, then frequency and presence over the
    completion.

    A repetition penalty r divides positive logits and multiplies negative ones by r; then
    `frequency * count` and, for count > 0, `presence` are subtracted. 1, 0 and 0 change nothing.
    """
    repeat = rows.repetition_penalty[:, None]
    seen = history.prompted | (history.counts > 0)
    scaled = jnp.where(logits > 0, logits / repeat, logits * repeat)
    logits = jnp.where(seen & (repeat != 1), scaled, logits)
    count = history.counts.astype(jnp.float32)
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
    lost = jnp.max(kept, axis=-1, keepdims=True) == -jnp.inf
    return jnp.where(lost & mask, 0.0, kept)


def min_tokens(logits: Float[Array, "B V"], rows: Rows, history: History) -> Float[Array, "B V"]:
    """Hold stop ids back while a row has fewer tokens than its minimum.

    Where nothing else can be drawn (the guide or the model leaves stop ids only), they are not held
    back: an early end is better than a token that is ruled out.
    """
    early = (history.step < rows.min_tokens)[:, None] & (rows.stop_ids >= 0)
    ids = jnp.where(early, rows.stop_ids, logits.shape[1])
    held = logits.at[_row_index(ids), ids].set(-jnp.inf, mode="drop")
    return jnp.where(jnp.max(held, axis=-1, keepdims=True) == -jnp.inf, logits, held)


def temperature(logits: Float[Array, "B V"], rows: Rows) -> Float[Array, "B V"]:
    """Subtract the largest logit, then divide by T; the largest becomes 0.

    T = 0 keeps nothing but the largest logit, the lowest id among equals. A tiny T sends the others
    to -inf without a NaN.
    """
    t = rows.temperature[:, None]
    top = jnp.max(logits, axis=-1, keepdims=True)
    return (logits - top) / jnp.where(t == 0, 1.0, t)


def greedy(logits: Float[Array, "B V"], rows: Rows) -> Float[Array, "B V"]:
    """Rows with T = 0: all but the lowest id among the largest logits (0 after `temperature`) are
    dropped."""
    first = first_index(logits == 0)
    here = jnp.arange(logits.shape[1], dtype=jnp.int32)[None, :] == first[:, None]
    return jnp.where((rows.temperature[:, None] == 0) & ~here, -jnp.inf, logits)


def top_k(logits: Float[Array, "B V"], rows: Rows) -> Float[Array, "B V"]:
    """Keep the k largest logits, among equals the lower ids; 0 keeps all."""
    ones = jnp.ones_like(logits)
    mask = smallest_set(logits, ones, rows.top_k.astype(jnp.float32))
    return jnp.where(mask | (rows.top_k[:, None] <= 0), logits, -jnp.inf)


def top_p(logits: Float[Array, "B V"], rows: Rows) -> Float[Array, "B V"]:
    """Keep the smallest set of most probable tokens whose mass is at least p, and at least one."""
    mass = probabilities(logits)
    mask = smallest_set(logits, mass, rows.top_p)
    return jnp.where(mask | (rows.top_p[:, None] >= 1), logits, -jnp.inf)


def min_p(logits: Float[Array, "B V"], rows: Rows) -> Float[Array, "B V"]:
    """Keep tokens with at least `min_p` times the largest probability; 0 keeps all."""
    return jnp.where(logits >= jnp.log(rows.min_p)[:, None], logits, -jnp.inf)


def typical_p(logits: Float[Array, "B V"], rows: Rows) -> Float[Array, "B V"]:
    """Keep the smallest set of tokens, those nearest to the entropy first, whose mass is at least
    p."""
    mass = probabilities(logits)
    surprisal = jnp.where(mass > 0, -jnp.log(mass), jnp.inf)
    entropy = total(jnp.where(mass > 0, mass * surprisal, 0.0))[:, None]
    mask = smallest_set(-jnp.abs(surprisal - entropy), mass, rows.typical_p)
    return jnp.where(mask | (rows.typical_p[:, None] >= 1), logits, -jnp.inf)


def probabilities(logits: Float[Array, "B V"]) -> Float[Array, "B V"]:
    """Softmax of logits whose largest is 0."""
    mass = jnp.exp(logits)
    return mass / total(mass)[:, None]


def first_index(mask: Bool[Array, "B V"]) -> Int[Array, "B"]:
    """Lowest index that is True; V where none is."""
    index = jnp.arange(mask.shape[1], dtype=jnp.int32)[None, :]
    return jnp.min(jnp.where(mask, index, mask.shape[1]), axis=-1)


def _row_index(ids: Int[Array, "B M"]) -> Int[Array, "B M"]:
    return jnp.broadcast_to(jnp.arange(ids.shape[0], dtype=jnp.int32)[:, None], ids.shape)


@dataclasses.dataclass(frozen=True)
class Stage:
    """One step of the pipeline: its name, which rows it changes, and what it does."""

    name: str
    active: Callable[[Rows, History], Bool[Array, "B"]]
    apply: Callable[[Float[Array, "B V"], Rows, History, GuideTables], Float[Array, "B V"]]


PIPELINE: tuple[Stage, ...] = (
    Stage(
        "logit_bias", lambda r, h: jnp.any(r.bias_ids >= 0, -1), lambda x, r, h, g: logit_bias(x, r)
    ),
    Stage(
        "penalties",
        lambda r, h: (
            (r.repetition_penalty != 1) | (r.frequency_penalty != 0) | (r.presence_penalty != 0)
        ),
        lambda x, r, h, g: penalties(x, r, h),
    ),
    Stage("guide", lambda r, h: h.node > 0, lambda x, r, h, g: guide(x, h, g)),
    Stage("min_tokens", lambda r, h: h.step < r.min_tokens, lambda x, r, h, g: min_tokens(x, r, h)),
    Stage("temperature", lambda r, h: r.temperature >= 0, lambda x, r, h, g: temperature(x, r)),
    Stage("temperature", lambda r, h: r.temperature == 0, lambda x, r, h, g: greedy(x, r)),
    Stage("top_k", lambda r, h: r.top_k > 0, lambda x, r, h, g: top_k(x, r)),
    Stage("top_p", lambda r, h: r.top_p < 1, lambda x, r, h, g: top_p(x, r)),
    Stage("min_p", lambda r, h: r.min_p > 0, lambda x, r, h, g: min_p(x, r)),
    Stage("typical_p", lambda r, h: r.typical_p < 1, lambda x, r, h, g: typical_p(x, r)),
)
"""The order of the contract. A request changes the distribution in these ways and in no other."""
