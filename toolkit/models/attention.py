"""Attention over the cache: one function, with a back end for each kind of call.

    products   two products and a softmax between them, in float32: every device and dtype, every
               step of decoding, soft caps
    fused      `jax.nn.dot_product_attention`, on CUDA cuDNN's flash attention, which never writes
               the scores to memory: prompts in half precision

A call is one or the other by what is known when it is traced; nothing is decided at run time. Where
the extra `toolkit.kernels` is installed, float32 on CPU is one operation of it, which turns queries
and keys and updates the cache too.

Sources: FlashAttention-2 (Dao 2023, arXiv 2307.08691), grouped heads (Ainslie et al. 2023, arXiv
2305.13245).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import jax
import jax.extend
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from toolkit import kernels
from toolkit.models.cache import LayerCache, SharedPrefixes
from toolkit.models.config import ModelConfig
from toolkit.models.rotary import rotate

ONES = 8
"""Columns of ones in a sum's product; fewer than eight go to another CPU kernel."""
FEW = 16
"""Queries of one step of decoding that read one head's cache together, at most: shared among the
heads of a group, and no number of a prompt's."""
FUSED_FROM = 32
"""Queries of a row from which on the fused back end is taken. Not measured yet: `make bench-gpu`
times both for prompts and for decoding (scenario `gpu_attention`)."""
FUSED_WIDTHS = range(8, 129, 8)
"""Widths of a head that cuDNN takes on every GPU with half precision."""

Product = Callable[[Array, Array], Array]
Backend = Literal["products", "fused"]
Turns = tuple[Array, Array]
"""Cosine and sine, `[B, 1, T, W]` each."""


def attend(
    tokens: Float[Array, "B T C"],
    turns: Turns | None,
    layer: LayerCache,
    start: Int[Array, "B"],
    shared: SharedPrefixes | None = None,
    *,
    scale: float | None = None,
    cap: float | None = None,
    window: int | None = None,
) -> tuple[Float[Array, "B T NK"], LayerCache]:
    """Queries, keys and values of new tokens, side by side, to what the queries read: `[B, T,
    (H + 2 H_kv) K]` -> `[B, T, H K]`, and the cache with T more slots from `start` on.

    Queries and keys turn by `turns`, None for not at all. The kernel makes use of `shared` in steps
    of decoding, where they change no bit. The rest is as `read` has it.
    """
    batch, length = tokens.shape[:2]
    heads = tokens.reshape(batch, length, -1, layer.keys.shape[2])
    keys = layer.keys.shape[0] // batch
    settings = {"scale": scale, "cap": cap, "window": window}
    if heads.shape[-1] % kernels.LANES == 0 and kernels.fit("attention", tokens, layer.keys):
        mixed, layer = by_kernel(heads, turns, layer, start, shared, **settings)
    else:
        queries = heads.shape[2] - 2 * keys
        q, k, v = jnp.split(heads.transpose(0, 2, 1, 3), [queries, queries + keys], axis=1)
        if turns is not None:
            q, k = rotate(q, *turns), rotate(k, *turns)
        layer = layer.write(start, k, v)
        mixed = read(q, layer, start, **settings).transpose(0, 2, 1, 3)
    return mixed.reshape(batch, length, -1), layer


def by_kernel(
    heads: Float[Array, "B T C K"],
    turns: Turns | None,
    layer: LayerCache,
    start: Int[Array, "B"],
    shared: SharedPrefixes | None,
    *,
    scale: float | None,
    cap: float | None,
    window: int | None,
) -> tuple[Float[Array, "B T N K"], LayerCache]:
    """By one operation in compiled C, which also turns and writes."""
    shared = SharedPrefixes.none(len(start)) if shared is None else shared
    mixed, keys, values = kernels.attention(
        heads,
        layer.keys,
        layer.values,
        start,
        shared.source,
        shared.length,
        None if turns is None else (turns[0][:, 0], turns[1][:, 0]),
        scale=factor(heads, scale),
        cap=cap,
        window=window,
    )
    return mixed, LayerCache(keys=keys, values=values)


def factor(x: Float[Array, "... K"], scale: float | None) -> float:
    """What scores of these queries or keys are multiplied with."""
    return x.shape[-1] ** -0.5 if scale is None else scale


def read(
    q: Float[Array, "B N T K"],
    layer: LayerCache,
    start: Int[Array, "B"],
    *,
    scale: float | None = None,
    cap: float | None = None,
    window: int | None = None,
    backend: Backend | None = None,
) -> Float[Array, "B N T K"]:
    """Causal attention of T queries over the cache: `[B, H, T, K]` -> `[B, H, T, K]`.

    Query t of row b sees slots 0 .. start[b] + t, or the last `window` of them. `scale` multiplies
    the scores, None for K ** -0.5; `cap` is their soft limit. Scores and softmax are float32.
    `backend` None takes the one that suits.
    """
    length, width = q.shape[2:]
    visible = seen(start, length, layer.keys.shape[1], window)
    if (backend or suited(q.dtype, length, width, cap)) == "fused":
        return fused(q, layer, visible, factor(q, scale))
    return products(q, layer, visible, factor(q, scale), cap)


def attends_by_kernel(config: ModelConfig) -> bool:
    """Whether a model's attention is the kernel's."""
    return config.kernels is not None and config.head_width % kernels.LANES == 0


def suited(dtype: jnp.dtype, length: int, width: int, cap: float | None) -> Backend:
    """The back end for a call of these sizes on the present device."""
    half = dtype in (jnp.bfloat16, jnp.float16)
    fits = half and length >= FUSED_FROM and width in FUSED_WIDTHS and cap is None
    return "fused" if fits and on_cuda() else "products"


def on_cuda() -> bool:
    """Whether the present device is one of cuDNN's."""
    return "cuda" in jax.extend.backend.get_backend().platform_version


def seen(
    start: Int[Array, "B"], length: int, slots: int, window: int | None
) -> Bool[Array, "B T S"]:
    """Which slots each query sees."""
    last = start[:, None] + jnp.arange(length, dtype=jnp.int32)[None, :]
    slot = jnp.arange(slots, dtype=jnp.int32)[None, None, :]
    visible = slot <= last[:, :, None]
    if window is not None:
        visible &= slot > last[:, :, None] - window
    return visible


def fused(
    q: Float[Array, "B N T K"], layer: LayerCache, visible: Bool[Array, "B T S"], scale: float
) -> Float[Array, "B N T K"]:
    """By one kernel on CUDA; elsewhere by the same function's own products."""
    batch = q.shape[0]

    def by_row(x: Float[Array, "BH S K"]) -> Float[Array, "B S H K"]:
        return jnp.swapaxes(x.reshape(batch, -1, *x.shape[1:]), 1, 2)

    with jax.numpy_dtype_promotion("standard"):  # which its products in XLA want
        mixed = jax.nn.dot_product_attention(
            jnp.swapaxes(q, 1, 2),
            by_row(layer.keys),
            by_row(layer.values),
            mask=visible[:, None],
            scale=scale,
            implementation="cudnn" if on_cuda() else "xla",
        )
    return jnp.swapaxes(mixed, 1, 2)


def products(
    q: Float[Array, "B N T K"],
    layer: LayerCache,
    visible: Bool[Array, "B T S"],
    scale: float,
    cap: float | None,
) -> Float[Array, "B N T K"]:
    """By two products, with the scores of all slots between them."""
    batch, heads, length, width = q.shape
    both, slots = layer.keys.shape[:2]
    grouped = q.reshape(both, batch * heads // both * length, width)
    against = against_few_keys if length == 1 and grouped.shape[1] <= FEW else against_keys
    alone = batch * length == 1 and jax.default_backend() == "cpu"
    by = apart if alone else at_once
    scores = by(against, grouped, layer.keys).reshape(batch, heads, length, slots) * scale
    scores = scores if cap is None else capped(scores, cap)
    scores = jnp.where(visible[:, None, :, :], scores, -jnp.inf)
    weights = jnp.exp(scores - jnp.max(scores, axis=-1, keepdims=True))
    shares = weights.astype(layer.values.dtype).reshape(both, -1, slots)
    mixed = by(over_values, shares, layer.values)
    total = jnp.sum(weights, axis=-1, keepdims=True) if alone else along_slots(weights)
    return (mixed.reshape(batch, heads, length, width) / total).astype(q.dtype)


def against_keys(q: Float[Array, "N Q K"], keys: Float[Array, "N S K"]) -> Float[Array, "N Q S"]:
    """Each query's products with the keys, in float32."""
    return jax.lax.dot_general(
        q,
        keys,
        (((2,), (2,)), ((0,), (0,))),
        precision=exact(q.dtype),
        preferred_element_type=jnp.float32,
    )


def against_few_keys(
    q: Float[Array, "N Q K"], keys: Float[Array, "N S K"]
) -> Float[Array, "N Q S"]:
    """The same for few queries, where on CPU the product is faster with the keys on the left; the
    barrier keeps XLA from turning it round. The sums come out in another order."""
    scores = against_keys(keys, q)
    return jnp.swapaxes(jax.lax.optimization_barrier(scores), 1, 2)


def over_values(
    shares: Float[Array, "N Q S"], values: Float[Array, "N S K"]
) -> Float[Array, "N Q K"]:
    """The values weighted by each query's shares, in float32."""
    return jax.lax.dot_general(
        shares,
        values,
        (((2,), (1,)), ((0,), (0,))),
        precision=exact(shares.dtype),
        preferred_element_type=jnp.float32,
    )


def at_once(product: Product, left: Float[Array, "N Q A"], right: Array) -> Float[Array, "N Q C"]:
    """A product as it stands."""
    return product(left, right)


def apart(product: Product, left: Float[Array, "N Q A"], right: Array) -> Float[Array, "N Q C"]:
    """A product query by query, for a CPU: XLA has a quick path there for a matrix with a vector,
    and the threads that it wakes for a few queries together take longer than the work. An
    accelerator would read the cache anew for each."""
    each = [product(left[:, i : i + 1], right) for i in range(left.shape[1])]
    return jnp.concatenate(each, axis=1)


def capped(x: Float[Array, "..."], cap: float) -> Float[Array, "..."]:
    """A soft limit: x near zero stays, and nothing passes `cap` in size."""
    return jnp.tanh(x / cap) * cap


def along_slots(weights: Float[Array, "B N T S"]) -> Float[Array, "B N T 1"]:
    """The sum over the slots. As a product with ones: on CPU a reduction adds in another order for
    fewer than some thousand numbers, the product adds alike for every number of rows and slots."""
    sums = jax.lax.dot_general(
        weights.reshape(-1, weights.shape[-1]),
        jnp.ones((ONES, weights.shape[-1]), weights.dtype),
        (((1,), (1,)), ((), ())),
        precision=jax.lax.Precision.HIGHEST,
    )
    return sums[:, :1].reshape(*weights.shape[:-1], 1)


def exact(dtype: jnp.dtype) -> jax.lax.Precision | None:
    """The precision of a product: float32 stays float32 (a GPU would round it to 10 bits)."""
    return jax.lax.Precision.HIGHEST if dtype == jnp.float32 else None
