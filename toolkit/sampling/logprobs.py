"""What is reported about a token. A logprob is the model's own: before bias, penalties,
temperature.

What the sampler really drew from has another name, `sampling_logprob`. All values are natural
logarithms, all ranks start at 1.
"""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from toolkit import kernels
from toolkit.sampling.sums import total
from toolkit.sampling.vocabulary import highest, ids_of, parts, summed, taken


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Scored:
    """The model's own view of one token a row, and of its alternatives."""

    logprob: Float[Array, "*B"]
    rank: Int[Array, "*B"]
    """1 + tokens with a larger logit, + equal ones with a lower id. 0 when not asked for."""
    entropy: Float[Array, "*B"]
    """Of the model's distribution, in nats. 0 when not asked for."""
    top_ids: Int[Array, "*B A"]
    top_logprobs: Float[Array, "*B A"]


def score(
    logits: Float[Array, "B V"],
    token: Int[Array, "B"],
    *,
    top_ids: Int[Array, "B A"],
    details: bool,
) -> Scored:
    """Logprob, rank, entropy and alternatives: `[B, V]`, `[B]`, `[B, A]` -> `[B]` and `[B, A]`.

    No `[B, V]` log-softmax is built: a logprob is the logit's distance from the largest, less the
    log of the summed exponentials. The distance comes first: it is exact where the largest logit is
    large.
    """
    peak, norm, entropy, rank = moments(logits, token, details=details)
    return Scored(
        logprob=taken(logits, token[:, None])[:, 0] - peak - norm,
        rank=rank,
        entropy=entropy,
        top_ids=top_ids,
        top_logprobs=taken(logits, top_ids) - peak[:, None] - norm[:, None],
    )


def moments(
    logits: Float[Array, "B V"], token: Int[Array, "B"], *, details: bool
) -> tuple[Float[Array, "B"], Float[Array, "B"], Float[Array, "B"], Int[Array, "B"]]:
    """The largest logit, the log of the sum of the exponentials of the distances from it, the
    entropy and the token's rank; the last two are 0 without `details`."""
    nothing = jnp.zeros(token.shape, jnp.float32), jnp.zeros(token.shape, jnp.int32)
    if kernels.fit("moments", logits) and parts() == 1:
        peak, norm, entropy, rank = kernels.moments(logits, token)
        return (peak, norm, entropy, rank) if details else (peak, norm, *nothing)
    peak = highest(jnp.max(logits, axis=-1, keepdims=True))
    mass = jnp.exp(logits - peak)
    whole = total(mass)
    norm = jnp.log(whole)
    if not details:
        return peak[:, 0], norm, *nothing
    weighted = total(jnp.where(mass > 0, mass * (logits - peak), 0.0))
    return peak[:, 0], norm, norm - weighted / whole, rank_of(logits, token)


def rank_of(logits: Float[Array, "B V"], token: Int[Array, "B"]) -> Int[Array, "B"]:
    """Place of a token among all, 1 for the most probable: `[B, V]`, `[B]` -> `[B]`."""
    own = taken(logits, token[:, None])
    before = (logits > own) | ((logits == own) & (ids_of(logits) < token[:, None]))
    return 1 + summed(jnp.sum(before.astype(jnp.int32), axis=-1))
