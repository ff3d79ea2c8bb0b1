"""Projections in 8-bit whole numbers: W8A8.

A weight is a whole number in [-127, 127] times the scale of its output channel, fixed at load. An
activation is two such digits, the second worth 1/254 of the first, times the scale of its row,
found anew for each. Products are summed as 32-bit whole numbers, exactly, so that a row has the
same bits in every batch. Norms, attention, residual and everything after the logits stay as they
are. `toolkit quality` measures what it costs.

Why two digits: a row of activations spans more than 8 bits. With one, SmolLM2's distributions move
nine times as far (0.042 nats a token instead of 0.005), and a single row costs as much, because it
has to be made two for the kernels of 8-bit numbers anyway.

Sources: Jacob et al. 2017, arXiv 1712.05877; rows scaled at run time as in LLM.int8 (Dettmers et
al. 2022, arXiv 2208.07339), without its treatment of outliers.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Int8

from toolkit import kernels
from toolkit.models.layers import along_last

LEVELS = 127
"""Largest whole number; -128 is not used, so that signs are alike."""

BASE = 2 * LEVELS
"""What a first digit is worth in second ones."""

TINY = 1e-30
"""Scale of a row of zeros, times LEVELS."""


class Int8Linear(nnx.Module):
    """`x @ (kernel * scale).T + bias`, with x rounded too. The kernel is stored `[out, in]`.
    `alone`: on a CPU with the same bits whatever is computed before, after and beside it."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        *,
        bias: bool,
        rngs: nnx.Rngs,
        dtype: DTypeLike,
        alone: bool = False,
    ):
        self.alone = alone
        drawn = jax.random.normal(rngs.params(), (outputs, inputs), jnp.float32) * inputs**-0.5
        kernel, scale = rounded(drawn)
        self.kernel = nnx.Param(kernel)
        self.scale = nnx.Param(scale[:, 0])
        self.bias = nnx.Param(jnp.zeros((outputs,), dtype)) if bias else None

    def __call__(self, x: Float[Array, "... inputs"]) -> Float[Array, "... outputs"]:
        y = self.product(x)
        return y if self.bias is None else y + along_last(self.bias[...], y)

    def product(
        self,
        x: Float[Array, "... inputs"],
        result: DTypeLike | None = None,
        onto: Float[Array, "... outputs"] | None = None,
    ) -> Float[Array, "... outputs"]:
        """Without the bias, as `result`, or as the dtype of `x` when left out, added to `onto`."""
        rows = x.reshape(-1, x.shape[-1]).astype(jnp.float32)
        out = multiplied(rows, self.kernel[...], self.scale[...], alone=self.alone)
        out = out.astype(x.dtype if result is None else result).reshape(*x.shape[:-1], -1)
        return out if onto is None else onto + out


def multiplied(
    rows: Float[Array, "N inputs"],
    kernel: Int8[Array, "outputs inputs"],
    scale: Float[Array, "outputs"],
    *,
    alone: bool = False,
) -> Float[Array, "N outputs"]:
    """Each row with every row of the kernel: `[N, K]`, `[out, K]` -> `[N, out]`.

    What XLA puts together with the rounding follows from the sizes of both, and so do its bits:
    `alone` it is a loop of one turn, of which XLA does not know that it is one. That takes a
    quarter longer for a prompt, and is not for accelerators, which would wait for the host.
    """
    if kernels.fit("rounded") and (alone or rows.shape[0] <= kernels.rounded_rows()):
        return kernels.rounded_product(rows, kernel, scale)
    if not alone or jax.default_backend() != "cpu":
        return multiplied_by_xla(rows, kernel, scale)
    turns = jnp.where(scale[0] < 0, 2, 1)
    out = jnp.zeros((rows.shape[0], kernel.shape[0]), jnp.float32)
    return jax.lax.fori_loop(0, turns, lambda *_: multiplied_by_xla(rows, kernel, scale), out)


def multiplied_by_xla(
    rows: Float[Array, "N inputs"],
    kernel: Int8[Array, "outputs inputs"],
    scale: Float[Array, "outputs"],
) -> Float[Array, "N outputs"]:
    """Each row, in two digits, with every row of the kernel: `[N, K]`, `[out, K]` -> `[N, out]`.

    The compiled kernel rounds alike: its bits are those of this function when XLA compiles it as a
    whole, which makes `high + low * (1 / BASE)` one rounding. Here the weights stand on the left,
    and both digits of all rows meet them at once: never one row, for which XLA on CPU leaves its
    products of 8-bit numbers and takes ten times as long. Divisors are written as factors, which is
    what XLA makes of them.
    """
    first, step = rounded(rows)
    rest = rows * (1 / step) - first.astype(jnp.float32)
    second = jnp.round(rest * BASE).astype(jnp.int8)
    digits = jnp.concatenate([first, second])
    summed = jax.lax.dot_general(
        kernel, digits, (((1,), (1,)), ((), ())), preferred_element_type=jnp.int32
    )
    high, low = jnp.split(summed.T.astype(jnp.float32), 2)
    return (high + low * (1 / BASE)) * step * scale[None, :]


def rounded(
    rows: Float[Array, "N inputs"],
) -> tuple[Int8[Array, "N inputs"], Float[Array, "N 1"]]:
    """Each row as whole numbers and the scale that gives it back: `[N, K]` -> `[N, K]`, `[N, 1]`.

    The largest number of a row becomes 127 or -127; halves go to the even neighbour.
    """
    peak = jnp.max(jnp.abs(rows), axis=-1, keepdims=True)
    step = jnp.maximum(peak, TINY) * (1 / LEVELS)
    return jnp.round(rows * (1 / step)).astype(jnp.int8), step


def rounded_on_host(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The same in NumPy, for weights on their way to the device: `[N, K]` -> `[N, K]`, `[N]`."""
    peak = np.maximum(rows.max(axis=-1, keepdims=True), -rows.min(axis=-1, keepdims=True))
    step = np.maximum(peak, np.float32(TINY)) / np.float32(LEVELS)
    whole = rows / step
    return np.rint(whole, out=whole).astype(np.int8), step[:, 0]
