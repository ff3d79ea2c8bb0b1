"""The network: a pre-norm decoder-only transformer in Flax NNX.

Axes, everywhere in this project:

    B  rows of a batch            T  tokens of one call (1 when decoding)
    S  slots of the cache         L  layers
    D  width of the residual      F  hidden width of the MLP
    H  query heads                G  query heads that share a key/value head (H = H_kv * G)
    K  width of one head          V  vocabulary

The module is for definition and loading. A compiled step takes its leaves (`nnx.split`), because
flattening module state on every call costs milliseconds.

Sources: Llama 2 (Touvron et al. 2023, arXiv 2307.09288), RMS norm (Zhang and Sennrich 2019, arXiv
1910.07467), rotary embedding (Su et al. 2021, arXiv 2104.09864; the half-split form of Hugging
Face), grouped heads (Ainslie et al. 2023, arXiv 2305.13245), gated MLP (Shazeer 2020, arXiv
2002.05202).
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Int

from toolkit.models.cache import KVCache, LayerCache, attend, exact
from toolkit.models.config import ModelConfig

ONES = 8
"""Columns of ones in a norm's product; fewer than eight go to another CPU kernel."""


PARTS = 4
"""Parts of a kernel that meet a single row: on CPU XLA gives a small product to one core only, but
each part of a batched one to the next free core."""


class Linear(nnx.Module):
    """`x @ kernel.T + bias`. The kernel is stored `[out, in]`.

    Why this way round: on CPU a contraction over the last axis of both sides needs no re-packing,
    and its rows have the same bits for every batch of two rows or more; on GPU a matrix-vector
    product reads it in order.
    """

    def __init__(self, inputs: int, outputs: int, *, bias: bool, rngs: nnx.Rngs, dtype: DTypeLike):
        scale = inputs**-0.5
        self.kernel = nnx.Param(
            jax.random.normal(rngs.params(), (outputs, inputs), jnp.float32).astype(dtype) * scale
        )
        self.bias = nnx.Param(jnp.zeros((outputs,), dtype)) if bias else None

    def __call__(self, x: Float[Array, "... inputs"]) -> Float[Array, "... outputs"]:
        y = contract(x, self.kernel[...])
        return y if self.bias is None else y + along_last(self.bias[...], y)


def contract(
    x: Float[Array, "... inputs"],
    kernel: Float[Array, "outputs inputs"],
    result: DTypeLike | None = None,
) -> Float[Array, "... outputs"]:
    """Contract the last axes of both: `[..., inputs]`, `[outputs, inputs]` -> `[..., outputs]`.

    `result` is the dtype of the outcome, that of `x` when left out. A single row meets the kernel
    in parts.
    """
    rows = x.reshape(-1, x.shape[-1])
    if rows.shape[0] == 1 and kernel.shape[0] % PARTS == 0 and kernel.shape[0] > ONES:
        parts = kernel.reshape(PARTS, -1, kernel.shape[1])
        row = jnp.broadcast_to(rows[None], (PARTS, *rows.shape))
        contracted, batch = ((2,), (2,)), ((0,), (0,))
    else:
        parts, row = kernel, rows
        contracted, batch = ((1,), (1,)), ((), ())
    out = jax.lax.dot_general(
        row,
        parts,
        (contracted, batch),
        precision=exact(x.dtype),
        preferred_element_type=result,
    )
    return out.reshape(*x.shape[:-1], kernel.shape[0])


def along_last(vector: Float[Array, "N"], like: Float[Array, "..."]) -> Float[Array, "..."]:
    """A vector over the last axis, with as many axes as `like`."""
    return vector.reshape((1,) * (like.ndim - 1) + (-1,))


class RMSNorm(nnx.Module):
    """Divide by the root mean square over the last axis, in float32, and scale.

    The sum of squares is a product with ones: XLA's own reduction adds in another order for another
    batch size, the product does not, so that a row has the same bits in every batch.
    """

    def __init__(self, width: int, epsilon: float, *, dtype: DTypeLike):
        self.scale = nnx.Param(jnp.ones((width,), dtype))
        self.epsilon = epsilon

    def __call__(self, x: Float[Array, "... D"]) -> Float[Array, "... D"]:
        wide = x.astype(jnp.float32)
        ones = jnp.ones((ONES, x.shape[-1]), jnp.float32)
        mean = contract(wide * wide, ones)[..., :1] / x.shape[-1]
        wide = wide * jax.lax.rsqrt(mean + self.epsilon)
        return along_last(self.scale[...], x) * wide.astype(x.dtype)


def rotate(
    x: Float[Array, "B N T K"], cos: Float[Array, "B 1 T K"], sin: Float[Array, "B 1 T K"]
) -> Float[Array, "B N T K"]:
    """Rotary embedding in the half-split form: feature i pairs with feature i + K/2."""
    half = x.shape[-1] // 2
    turned = jnp.concatenate([-x[..., half:], x[..., :half]], axis=-1)
    return x * cos + turned * sin


class Block(nnx.Module):
    """One layer: attention and gated MLP, each after a norm, each added to the residual."""

    def __init__(self, config: ModelConfig, *, rngs: nnx.Rngs, dtype: DTypeLike):
        c = config
        self.config = config
        queries, keys = c.heads * c.head_width, c.kv_heads * c.head_width
        self.attention_norm = RMSNorm(c.width, c.norm_epsilon, dtype=dtype)
        self.qkv = Linear(
            c.width, queries + 2 * keys, bias=c.attention_bias, rngs=rngs, dtype=dtype
        )
        self.output = Linear(queries, c.width, bias=c.attention_bias, rngs=rngs, dtype=dtype)
        self.mlp_norm = RMSNorm(c.width, c.norm_epsilon, dtype=dtype)
        self.gate_up = Linear(c.width, 2 * c.mlp_width, bias=c.mlp_bias, rngs=rngs, dtype=dtype)
        self.down = Linear(c.mlp_width, c.width, bias=c.mlp_bias, rngs=rngs, dtype=dtype)

    def __call__(
        self, x, cos, sin, start, layer: LayerCache
    ) -> tuple[Float[Array, "B T D"], LayerCache]:
        c = self.config
        batch, length = x.shape[:2]
        heads = self.qkv(self.attention_norm(x)).reshape(
            batch, length, c.heads + 2 * c.kv_heads, c.head_width
        )
        heads = heads.transpose(0, 2, 1, 3)
        q, k, v = jnp.split(heads, [c.heads, c.heads + c.kv_heads], axis=1)
        layer = layer.write(start, rotate(k, cos, sin), v)
        mixed = attend(rotate(q, cos, sin), layer, start)
        x = x + self.output(mixed.transpose(0, 2, 1, 3).reshape(batch, length, -1))
        gate, up = jnp.split(self.gate_up(self.mlp_norm(x)), 2, axis=-1)
        return x + self.down(jax.nn.silu(gate) * up), layer


class Decoder(nnx.Module):
    """Token ids in, final hidden states and logits out."""

    def __init__(self, config: ModelConfig, *, rngs: nnx.Rngs, dtype: DTypeLike = jnp.float32):
        self.config = config
        self.embedding = nnx.Param(
            jax.random.normal(rngs.params(), (config.vocab_size, config.width), jnp.float32).astype(
                dtype
            )
            * config.width**-0.5
        )
        self.blocks = nnx.List(
            [Block(config, rngs=rngs, dtype=dtype) for _ in range(config.layers)]
        )
        self.norm = RMSNorm(config.width, config.norm_epsilon, dtype=dtype)
        self.head = (
            None
            if config.tied_head
            else Linear(config.width, config.vocab_size, bias=False, rngs=rngs, dtype=dtype)
        )

    def __call__(
        self, tokens: Int[Array, "B T"], start: Int[Array, "B"], cache: KVCache
    ) -> tuple[Float[Array, "B T D"], KVCache]:
        """Hidden states after the last norm: `[B, T]`, `[B]` -> `[B, T, D]`, and the cache with T
        more slots.

        Row b's tokens stand at positions `start[b] .. start[b] + T - 1` and are written to the
        cache slots of the same numbers. A query sees the slots up to its own position, so what
        padding wrote beyond a row's length is never seen before it is overwritten.
        """
        c = self.config
        positions = start[:, None] + jnp.arange(tokens.shape[1], dtype=jnp.int32)[None, :]
        frequencies = c.rope_theta ** (
            -jnp.arange(0, c.head_width, 2, dtype=jnp.float32) / c.head_width
        )
        angles = positions[:, None, :, None].astype(jnp.float32) * frequencies[None, None, None, :]
        angles = jnp.concatenate([angles, angles], axis=-1)
        x = self.embedding[...][tokens]
        cos, sin = jnp.cos(angles).astype(x.dtype), jnp.sin(angles).astype(x.dtype)
        layers = []
        for block, layer in zip(self.blocks, cache.layers, strict=True):
            x, layer = block(x, cos, sin, start, layer)
            layers.append(layer)
        return self.norm(x), KVCache(layers=tuple(layers))

    def logits(self, hidden: Float[Array, "... D"]) -> Float[Array, "... V"]:
        """Unnormalised log-probabilities in float32: `[..., D]` -> `[..., V]`."""
        kernel = self.embedding[...] if self.head is None else self.head.kernel[...]
        return contract(hidden, kernel, jnp.float32)
