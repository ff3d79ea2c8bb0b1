"""One layer of the network, with the switches of every family.

Switches are Python's: a family compiles the operations that it has and no others.

Sources: Llama 2 (Touvron et al. 2023, arXiv 2307.09288), grouped heads (Ainslie et al. 2023, arXiv
2305.13245), gated MLP (Shazeer 2020, arXiv 2002.05202), sliding windows (Jiang et al. 2023, arXiv
2310.06825), soft caps and two norms (Gemma 2, arXiv 2408.00118), parallel residual (Black et al.
2022, arXiv 2204.06745), norms of queries and keys (OLMo 2, arXiv 2501.00656).
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Int

from toolkit import kernels
from toolkit.models.attention import Turns, attend
from toolkit.models.cache import LayerCache, SharedPrefixes
from toolkit.models.config import Activation, Layer, ModelConfig
from toolkit.models.int8 import Int8Linear
from toolkit.models.layers import Linear, Projection, make_norm, projected
from toolkit.models.mixture import Mixture
from toolkit.models.packing import Packing

Ropes = Mapping[str, Turns]
"""Name of a rotary embedding -> what its heads turn by."""

ACTIVATIONS: Mapping[Activation, Callable[[Array], Array]] = {
    "silu": jax.nn.silu,
    "gelu": functools.partial(jax.nn.gelu, approximate=False),
    "gelu_tanh": functools.partial(jax.nn.gelu, approximate=True),
    "relu": jax.nn.relu,
}


class Block(nnx.Module):
    """Attention and an MLP, each added to the residual."""

    def __init__(self, config: ModelConfig, kind: Layer, *, rngs: nnx.Rngs, dtype: DTypeLike):
        c = config
        self.config, self.kind = config, kind
        queries, keys = c.heads * c.head_width, c.kv_heads * c.head_width
        norm = functools.partial(make_norm, c.norm, epsilon=c.norm_epsilon, dtype=dtype)
        whole = functools.partial(Int8Linear, alone=c.strict)
        linear = functools.partial(whole if c.quant == "int8" else Linear, rngs=rngs, dtype=dtype)
        self.attention_norm = norm(width=c.width) if c.pre_norm else None
        self.qkv = linear(c.width, queries + 2 * keys, bias=c.qkv_bias)
        widths = {"head": (c.head_width, c.head_width), "whole": (queries, keys), None: None}
        normed = widths[c.query_key_norm]
        whole = c.query_key_norm == "whole"
        self.query_norm = norm(width=normed[0], divided=whole) if normed else None
        self.key_norm = norm(width=normed[1], divided=whole) if normed else None
        self.output = linear(queries, c.width, bias=c.output_bias)
        self.attention_post_norm = norm(width=c.width) if c.post_norm else None
        self.mlp_norm = norm(width=c.width) if c.pre_norm else None
        if kind.sparse:
            self.mixture = Mixture(c, ACTIVATIONS[c.activation], rngs=rngs, dtype=dtype)
        else:
            inner = (2 if c.gated else 1) * c.mlp_width
            self.gate_up = linear(c.width, inner, bias=c.mlp_bias)
            self.down = linear(c.mlp_width, c.width, bias=c.mlp_bias)
        self.mlp_post_norm = norm(width=c.width) if c.post_norm else None

    def __call__(
        self,
        x: Float[Array, "B T D"],
        ropes: Ropes,
        start: Int[Array, "R"],
        layer: LayerCache,
        packing: Packing | None = None,
        shared: SharedPrefixes | None = None,
    ) -> tuple[Float[Array, "B T D"], LayerCache]:
        read, layer = self.attention(
            normed(self.attention_norm, x), ropes, start, layer, packing, shared
        )
        after = added(x, self.output, read, self.attention_post_norm)
        entering = normed(self.mlp_norm, x if self.config.parallel else after)
        if self.kind.sparse:
            return after + normed(self.mlp_post_norm, self.mixture(entering)), layer
        return added(after, self.down, self.inner(entering), self.mlp_post_norm), layer

    def attention(
        self,
        x: Float[Array, "B T D"],
        ropes: Ropes,
        start: Int[Array, "R"],
        layer: LayerCache,
        packing: Packing | None,
        shared: SharedPrefixes | None,
    ) -> tuple[Float[Array, "B T HK"], LayerCache]:
        """What the heads read from the tokens so far, side by side."""
        c = self.config
        qkv = self.qkv(x) if packing is None else packing.spread(self.qkv(x))
        read, layer = attend(
            self.normed_heads(qkv),
            None if self.kind.rope is None else ropes[self.kind.rope],
            layer,
            start,
            shared,
            scale=c.attention_scale,
            cap=c.attention_cap,
            window=self.kind.window,
        )
        return read if packing is None else packing.gathered(read), layer

    def normed_heads(self, qkv: Float[Array, "B T QKV"]) -> Float[Array, "B T QKV"]:
        """With norms of queries and keys, where the family has them.

        Together again afterwards: else XLA draws the norm into the rotation, in another way for one
        row than for several, and bits differ.
        """
        c = self.config
        if c.query_key_norm is None:
            return qkv
        each = c.head_width if c.query_key_norm == "head" else 1
        apart = qkv.reshape(*qkv.shape[:2], -1, each) if each > 1 else qkv
        queries, keys = c.heads * c.head_width // each, c.kv_heads * c.head_width // each
        q, k, v = jnp.split(apart, [queries, queries + keys], axis=2)
        q, k = normed(self.query_norm, q), normed(self.key_norm, k)
        return jnp.concatenate([q, k, v], axis=2).reshape(qkv.shape)

    def inner(self, x: Float[Array, "B T D"]) -> Float[Array, "B T F"]:
        """The hidden features of the MLP."""
        activation = ACTIVATIONS[self.config.activation]
        if not self.config.gated:
            return activation(self.gate_up(x))
        both = self.gate_up(x)
        if self.config.activation == "silu" and kernels.fit("gated", both):
            return kernels.gated(both)
        gate, up = jnp.split(both, 2, axis=-1)
        return activation(gate) * up


def normed(norm: Callable[[Array], Array] | None, x: Float[Array, "..."]) -> Float[Array, "..."]:
    """A norm that a family has or has not."""
    return x if norm is None else norm(x)


def added(
    x: Float[Array, "B T D"],
    linear: Projection,
    y: Float[Array, "B T N"],
    norm: Callable[[Array], Array] | None,
) -> Float[Array, "B T D"]:
    """The residual with a projection, which some families norm first."""
    return projected(linear, y, x) if norm is None else x + norm(projected(linear, y))
