"""The kernels as JAX functions, and whether the network that is being traced uses them."""

from __future__ import annotations

import contextlib
import contextvars
import math
from collections.abc import Iterator, Sequence
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Int8

LANES = 16
"""Features of a head are taken so many at a time."""
MOST_LARGEST = 64
"""So many of a row's largest numbers are found at the most."""

Operation = Literal[
    "product",
    "many",
    "rounded",
    "attention",
    "norm",
    "gated",
    "moments",
    "draw",
    "count",
    "largest",
]
_in_use: contextvars.ContextVar[tuple[Operation, ...]] = contextvars.ContextVar("kernels")


@contextlib.contextmanager
def using(*operations: Operation) -> Iterator[None]:
    """Let what is traced within use these kernels and no others."""
    token = _in_use.set(operations)
    try:
        yield
    finally:
        _in_use.reset(token)


def fit(operation: Operation, *arrays: Array) -> bool:
    """Whether the network that is being traced uses this kernel, and it takes these arrays."""
    used = operation in _in_use.get(())
    return used and all(array.dtype == jnp.float32 for array in arrays)


def product(
    x: Float[Array, "... inputs"],
    kernel: Float[Array, "outputs inputs"],
    onto: Float[Array, "... outputs"] | None = None,
    *,
    many: bool = False,
) -> Float[Array, "... outputs"]:
    """Contract the last axes of both: `[..., inputs]`, `[outputs, inputs]` -> `[..., outputs]`,
    added to `onto`.

    `many` is for many rows, where `library.has_many`; its sums have other bits.
    """
    rows = x.reshape(math.prod(x.shape[:-1]), x.shape[-1])
    result = jax.ShapeDtypeStruct((rows.shape[0], kernel.shape[0]), jnp.float32)
    call = jax.ffi.ffi_call("toolkit_many_product" if many else "toolkit_product", result)
    out = call(rows, kernel, *(() if onto is None else (onto.reshape(result.shape),)))
    return out.reshape(*x.shape[:-1], kernel.shape[0])


def rounded_product(
    x: Float[Array, "rows inputs"],
    kernel: Int8[Array, "outputs inputs"],
    scale: Float[Array, "outputs"],
) -> Float[Array, "rows outputs"]:
    """The same in 8 bits, as `toolkit.models.int8` describes it."""
    result = jax.ShapeDtypeStruct((x.shape[0], kernel.shape[0]), jnp.float32)
    return jax.ffi.ffi_call("toolkit_rounded_product", result)(x, kernel, scale)


def attention(
    tokens: Float[Array, "B T N+2*M K"],
    keys: Float[Array, "BM S K"],
    values: Float[Array, "BM S K"],
    start: Int[Array, "B"],
    source: Int[Array, "B"],
    shared: Int[Array, "B"],
    turns: tuple[Float[Array, "B T W"], Float[Array, "B T W"]] | None,
    *,
    scale: float,
    cap: float | None,
    window: int | None,
) -> tuple[Float[Array, "B T N K"], Float[Array, "BM S K"], Float[Array, "BM S K"]]:
    """Causal attention over a cache that the new tokens' M keys and values enter, in its memory if
    it is donated: what each query has read, and the cache. As `toolkit.models.attention.attend`
    describes it. The first `shared[b]` slots of row b are read in row `source[b]`, where the same
    numbers are."""
    batch, length, heads, width = tokens.shape
    heads -= 2 * (keys.shape[0] // batch)
    settings = jnp.array([scale, cap or 0.0, window or 0], jnp.float32)
    none = jnp.zeros((batch, length, 0), jnp.float32)
    results = jax.ShapeDtypeStruct((batch, length, heads, width), jnp.float32), keys, values
    call = jax.ffi.ffi_call("toolkit_attention", results, input_output_aliases={1: 1, 2: 2})
    mixed, keys, values = call(
        tokens, keys, values, start, source, shared, *(turns or (none, none)), settings
    )
    return mixed, keys, values


def norm(
    x: Float[Array, "... N"], scale: Float[Array, "N"], *, epsilon: float, offset: float
) -> Float[Array, "... N"]:
    """Divided by the root mean square over the last axis, times `offset + scale`."""
    rows = x.reshape(math.prod(x.shape[:-1]), x.shape[-1])
    settings = jnp.array([epsilon, offset], jnp.float32)
    result = jax.ShapeDtypeStruct(rows.shape, jnp.float32)
    return jax.ffi.ffi_call("toolkit_norm", result)(rows, scale, settings).reshape(x.shape)


def gated(x: Float[Array, "... 2*F"]) -> Float[Array, "... F"]:
    """`silu(gate) * up`, of which x holds one beside the other: `[..., 2 F]` -> `[..., F]`."""
    rows = x.reshape(math.prod(x.shape[:-1]), x.shape[-1])
    result = jax.ShapeDtypeStruct((rows.shape[0], rows.shape[1] // 2), jnp.float32)
    return jax.ffi.ffi_call("toolkit_gate", result)(rows).reshape(*x.shape[:-1], -1)


def moments(
    x: Float[Array, "B V"], token: Int[Array, "B"]
) -> tuple[Float[Array, "B"], Float[Array, "B"], Float[Array, "B"], Int[Array, "B"]]:
    """Of each row the largest number, the log of the sum of `exp(x - largest)`, the entropy of that
    distribution, and the token's rank: `[B, V]`, `[B]` -> `[B]` each."""
    numbers, whole = (jax.ShapeDtypeStruct(token.shape, t) for t in (jnp.float32, jnp.int32))
    call = jax.ffi.ffi_call("toolkit_moments", (numbers, numbers, numbers, whole))
    peak, norm, entropy, rank = call(x, token)
    return peak, norm, entropy, rank


class Edits(NamedTuple):
    """What is done to the logits of a batch, in rows that are touched, in this order."""

    touched: Bool[Array, "B"]
    bias_ids: Int[Array, "B M"]
    """Negative ones are none."""
    bias_values: Float[Array, "B M"]
    penalties: Float[Array, "B 3"]
    """Repetition, frequency, presence."""
    prompted: Bool[Array, "B V"]
    counts: Int[Array, "B V"]
    node: Int[Array, "B"]
    """Of the guide; 0: free."""
    first: Int[Array, "N"]
    """Where a node's ids begin."""
    allowed: Int[Array, "E"]
    held_back: Bool[Array, "B"]
    """Whether stop ids are."""
    stop_ids: Int[Array, "B Z"]

    def arrays(self) -> Sequence[Array]:
        """As the kernels take them."""
        whole = {"touched": self.touched, "held_back": self.held_back}
        return self._replace(**{name: x.astype(jnp.int32) for name, x in whole.items()})


def edit(logits: Float[Array, "B V"], edits: Edits) -> Float[Array, "B V"]:
    """The logits after the edits, touched or not."""
    call = jax.ffi.ffi_call("toolkit_edit", jax.ShapeDtypeStruct(logits.shape, jnp.float32))
    return call(logits, *edits.arrays())


class Drawing(NamedTuple):
    """What a draw gives; `source/kernels.h` lists the columns."""

    found: Float[Array, "B 12"]
    ids: Int[Array, "B 7"]
    legal: Float[Array, "B A"]
    """Edited logits of the ids asked for."""
    leaders: Float[Array, "B L"]
    """The largest after temperature and truncation, -inf for what was cut; nothing in rows that do
    not want them."""
    leader_ids: Int[Array, "B L"]


def draw(
    logits: Float[Array, "B V"],
    edits: Edits,
    given: Float[Array, "B 10"],
    asked: Int[Array, "B A"],
    leading: int,
) -> Drawing:
    """A token of each row after the edits, and what truncation left of it."""
    rows, shape = logits.shape[0], jax.ShapeDtypeStruct
    results = (
        shape((rows, 12), jnp.float32),
        shape((rows, 7), jnp.int32),
        shape(asked.shape, jnp.float32),
        shape((rows, leading), jnp.float32),
        shape((rows, leading), jnp.int32),
    )
    call = jax.ffi.ffi_call("toolkit_draw", results)
    return Drawing(*call(logits, *edits.arrays(), given, asked))


def count(
    counts: Int[Array, "B V"], token: Int[Array, "B"], more: Int[Array, "B"]
) -> Int[Array, "B V"]:
    """`more` added to each row's count of a token, in their memory if they are donated."""
    result = jax.ShapeDtypeStruct(counts.shape, counts.dtype)
    call = jax.ffi.ffi_call("toolkit_count", result, input_output_aliases={0: 0})
    return call(counts, token, more)


def largest(
    x: Float[Array, "B V"], count: int, wanted: Bool[Array, "B"] | None = None
) -> tuple[Float[Array, "B A"], Int[Array, "B A"]]:
    """The `count` largest of each row and their places, the lower one first among equals; zeros
    where they are not wanted. At most MOST_LARGEST."""
    rows = x.shape[0]
    wanted = jnp.ones(rows, jnp.bool_) if wanted is None else wanted
    results = (
        jax.ShapeDtypeStruct((rows, count), jnp.float32),
        jax.ShapeDtypeStruct((rows, count), jnp.int32),
    )
    values, ids = jax.ffi.ffi_call("toolkit_largest", results)(x, wanted.astype(jnp.int32))
    return values, ids
