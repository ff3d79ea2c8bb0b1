"""The network: a decoder-only transformer in Flax NNX.

Axes, everywhere in this project:

    B  rows of a batch            T  tokens of one call (1 when decoding)
    S  slots of the cache         L  layers
    D  width of the residual      F  hidden width of the MLP
    H  query heads                G  query heads that share a key/value head (H = H_kv * G)
    K  width of one head          W  features of a head that turn with the position
    V  vocabulary                 E  experts of a mixture
    R  rows of the cache: B, or the prompts that are packed in one row of tokens

The module is for definition and loading. A compiled step takes its leaves (`nnx.split`), because
flattening module state on every call costs milliseconds. On a mesh its configuration is that of one
device's part (`toolkit.models.sharding`), and it runs inside `jax.shard_map`.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Int

from toolkit import kernels
from toolkit.models.attention import attends_by_kernel, capped
from toolkit.models.block import Block, Ropes
from toolkit.models.cache import KVCache, SharedPrefixes
from toolkit.models.config import ModelConfig
from toolkit.models.int8 import Int8Linear
from toolkit.models.layers import Linear, contract, make_norm, normal
from toolkit.models.packing import Packing
from toolkit.models.rotary import cosine_and_sine
from toolkit.models.sharding import looked_up


def holds_bits(config: ModelConfig) -> bool:
    """Whether a row has the same bits alone as among others, because of the compiled kernels."""
    whole = config.kernels == "decoding" and config.quant is None
    return whole and attends_by_kernel(config)


class Decoder(nnx.Module):
    """Token ids in, final hidden states and logits out."""

    def __init__(self, config: ModelConfig, *, rngs: nnx.Rngs, dtype: DTypeLike = jnp.float32):
        c = config
        self.config = config
        self.embedding = normal((c.vocab_size, c.width), c.width, rngs, dtype)
        self.positions = (
            normal((c.context, c.width), c.width, rngs, dtype) if c.learned_positions else None
        )
        self.blocks = nnx.List(
            [Block(c, c.kind(layer), rngs=rngs, dtype=dtype) for layer in range(c.layers)]
        )
        self.norm = make_norm(c.norm, c.width, c.norm_epsilon, dtype)
        linear = functools.partial(Int8Linear, alone=c.strict) if c.quant == "int8" else Linear
        self.head = (
            None
            if c.tied_head and c.quant is None
            else linear(c.width, c.vocab_size, bias=False, rngs=rngs, dtype=dtype)
        )

    def __call__(
        self,
        tokens: Int[Array, "B T"],
        start: Int[Array, "R"],
        cache: KVCache,
        packing: Packing | None = None,
        shared: SharedPrefixes | None = None,
    ) -> tuple[Float[Array, "B T D"], KVCache]:
        """Hidden states after the last norm: `[B, T]`, `[B]` -> `[B, T, D]`, and the cache with T
        more slots.

        Row b's tokens stand at positions `start[b] .. start[b] + T - 1` and are written to the
        cache slots of the same numbers. A query sees the slots up to its own position, so what
        padding wrote beyond a row's length is never seen before it is overwritten. With a packing
        the tokens are its single row, `[1, T]`, and `start` and the cache have a row for each of
        its prompts. `shared` tells which rows have first slots in common.
        """
        length = tokens.shape[1] if packing is None else packing.token.shape[1]
        positions = start[:, None] + jnp.arange(length, dtype=jnp.int32)[None, :]
        x = self.embed(tokens, positions if packing is None else packing.gathered(positions))
        ropes = self.ropes(positions, x.dtype)
        layers = []
        with kernels.using(*self._kernels(few=tokens.shape[1] == 1 or self.short(tokens.size))):
            for block, layer in zip(self.blocks, cache.layers, strict=True):
                x, layer = block(x, ropes, start, layer, packing, shared)
                layers.append(layer)
            return self.norm(x), KVCache(layers=tuple(layers))

    def short(self, tokens: int) -> bool:
        """Whether the kernel for few rows takes so many tokens of prompts."""
        return self.config.kernels == "short" and tokens <= kernels.few_rows()

    def _kernels(self, *, few: bool) -> Sequence[kernels.Operation]:
        """Which compiled kernels the products of a call use: those for few rows, or those for many.

        Where the processor has none of the latter they are XLA's, which is quicker than the former.
        In none of them do the bits of a row depend on how many rows there are.
        """
        if self.config.kernels is None:
            return ()
        products = ("product",) if few else ("many",) if kernels.has_many() else ()
        return (*products, "rounded", "attention", "norm", "gated")

    def embed(
        self, tokens: Int[Array, "B T"], positions: Int[Array, "B T"]
    ) -> Float[Array, "B T D"]:
        """What enters the first layer: `[B, T]`, `[B, T]` -> `[B, T, D]`."""
        x = looked_up(self.embedding[...], tokens)
        if self.config.embedding_scale is not None:
            x = x * jnp.asarray(self.config.embedding_scale, x.dtype)
        return x if self.positions is None else x + self.positions[...][positions]

    def ropes(self, positions: Int[Array, "B T"], dtype: jnp.dtype) -> Ropes:
        """Cosine and sine for each rotary embedding that a layer uses."""
        c = self.config
        used = {c.kind(layer).rope for layer in range(c.layers)}
        ropes = {"global": c.rope, "local": c.local_rope}
        made = {}
        for name, rope in ropes.items():
            if name in used and rope is not None:
                cos, sin = cosine_and_sine(rope, positions, c.head_width)
                made[name] = cos.astype(dtype), sin.astype(dtype)
        return made

    def logits(self, hidden: Float[Array, "... D"], *, few: bool = True) -> Float[Array, "... V"]:
        """Unnormalised log-probabilities in float32: `[..., D]` -> `[..., V]`. Not `few`: of many
        tokens of a prompt, whose sums may then have other bits."""
        with kernels.using(*self._kernels(few=few)):
            if self.head is None:
                logits = contract(hidden, self.embedding[...], jnp.float32)
            else:
                logits = self.head.product(hidden, jnp.float32)
        return logits if self.config.logit_cap is None else capped(logits, self.config.logit_cap)
