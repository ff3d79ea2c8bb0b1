"""A mixture of experts: each token goes through the few MLPs that a router chooses for it.

Sources: Mixtral (Jiang et al. 2024, arXiv 2401.04088), Qwen 3 (arXiv 2505.09388).
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from toolkit.models.config import ModelConfig
from toolkit.models.layers import Linear, contract, normal, total
from toolkit.models.sharding import summed


class Mixture(nnx.Module):
    """A router and E gated MLPs, whose kernels lie one after another: `[E * 2F, D]`, `[E * D, F]`.

    One expert after another meets all rows, and its outcome counts by each row's share in it. An
    expert that no row chose is not read at all: decoding a few rows reads the experts in use.
    A row's bits depend on no other row, because an expert that the row did not choose adds zero.
    """

    def __init__(
        self,
        config: ModelConfig,
        activation: Callable[[Array], Array],
        *,
        rngs: nnx.Rngs,
        dtype: DTypeLike,
    ):
        c = config
        self.config, self.activation = config, activation
        self.router = Linear(c.width, c.experts, bias=False, rngs=rngs, dtype=dtype)
        self.gate_up = normal((c.experts * 2 * c.expert_width, c.width), c.width, rngs, dtype)
        self.down = normal((c.experts * c.width, c.expert_width), c.expert_width, rngs, dtype)

    def __call__(self, x: Float[Array, "B T D"]) -> Float[Array, "B T D"]:
        c = self.config
        rows = x.reshape(-1, c.width)
        gate_up = self.gate_up[...].reshape(c.experts, 2 * c.expert_width, c.width)
        down = self.down[...].reshape(c.experts, c.width, c.expert_width)

        def add(mixed: Array, expert: tuple[Array, Array, Array]) -> tuple[Array, None]:
            share = expert[2]

            def used() -> Array:
                gate, up = jnp.split(contract(rows, expert[0]), 2, axis=-1)
                out = contract(self.activation(gate) * up, expert[1])
                return mixed + share[:, None] * out.astype(jnp.float32)

            if jax.default_backend() != "cpu":  # an accelerator would wait for the host to choose
                return used(), None
            return jax.lax.cond(jnp.any(share > 0), used, lambda: mixed), None

        none = jnp.zeros(rows.shape, jnp.float32)
        mixed, _ = jax.lax.scan(add, none, (gate_up, down, self.shares(rows).T))
        return summed(mixed).astype(x.dtype).reshape(x.shape)

    def shares(self, rows: Float[Array, "N D"]) -> Float[Array, "N E"]:
        """How much of each expert a row takes: `[N, D]` -> `[N, E]`, zero where it is not chosen.

        The softmax of the router's logits, in float32; with `experts_normalised`, of those chosen.
        """
        logits = self.router(rows).astype(jnp.float32)
        chosen = jax.lax.top_k(logits, self.config.experts_used)[1]
        row = jnp.arange(rows.shape[0], dtype=jnp.int32)[:, None]
        mask = jnp.zeros(logits.shape, jnp.bool_).at[row, chosen].set(True)
        weights = jnp.exp(logits - jnp.max(logits, axis=-1, keepdims=True))
        kept = jnp.where(mask, weights, 0.0)
        return kept / total(kept if self.config.experts_normalised else weights)
