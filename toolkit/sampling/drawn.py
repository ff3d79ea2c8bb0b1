"""What a sampling step gives."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from toolkit.sampling.logprobs import Scored
from toolkit.sampling.transforms import PIPELINE
from toolkit.sampling.truncation import Kept

DROPPED_BY: tuple[str | None, ...] = (None, *(stage.name for stage in PIPELINE))
"""What the numbers in `Drawn.dropped` mean."""


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


def marked(
    marks: Int[Array, "B A"], was: Float[Array, "B A"], now: Float[Array, "B A"], name: str
) -> Int[Array, "B A"]:
    """Note the alternatives that a step dropped: above -inf before it and -inf after."""
    return jnp.where((was > -jnp.inf) & (now == -jnp.inf), DROPPED_BY.index(name), marks)


def marked_by_cuts(
    marks: Int[Array, "B A"],
    names: Sequence[str],
    kept: Sequence[Kept],
    values: Float[Array, "B A"],
    ids: Int[Array, "B A"],
) -> Int[Array, "B A"]:
    """Note the alternatives that the cuts of these names dropped, from what was left before the
    first and after each; `values` are those of the alternatives after temperature."""
    left = [jnp.where(each.mask(values, ids), values, -jnp.inf) for each in kept]
    for name, was, now in zip(names, left[:-1], left[1:], strict=True):
        marks = marked(marks, was, now, name)
    return marks
