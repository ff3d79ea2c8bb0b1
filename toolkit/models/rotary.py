"""The rotary embedding: queries and keys turn by angles that grow with the position.

Source: Su et al. 2021, arXiv 2104.09864, in the half-split form of Hugging Face.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from toolkit.models.config import Rope


def angles(rope: Rope, positions: Int[Array, "B T"], head_width: int) -> Float[Array, "B 1 T W"]:
    """The angle of each feature that turns: `[B, T]` -> `[B, 1, T, W]`, in radians."""
    width = head_width if rope.width is None else rope.width
    # On the host: a power inside the program is rounded in another way for another batch size.
    powers = np.float32(rope.theta) ** (np.arange(0, width, 2, dtype=np.float32) / width)
    frequencies = 1 / powers.astype(np.float32)
    if rope.ratios:
        frequencies = frequencies * np.asarray(rope.ratios, np.float32)
    half = positions[:, None, :, None].astype(jnp.float32) * frequencies[None, None, None, :]
    return jnp.concatenate([half, half], axis=-1)


def cosine_and_sine(
    rope: Rope, positions: Int[Array, "B T"], head_width: int
) -> tuple[Float[Array, "B 1 T W"], Float[Array, "B 1 T W"]]:
    """What features are turned with: `[B, T]` -> `[B, 1, T, W]` each, times the magnitude.

    On a CPU in a loop: XLA would draw them into what uses them and compute them twice a layer,
    which took a tenth of a prompt's time. It does not look into loops, nor stop at
    `optimization_barrier`, which is gone by then.
    """
    angle = angles(rope, positions, head_width)
    if jax.default_backend() == "cpu":
        ways = [jnp.cos, jnp.sin]
        both = jax.lax.map(lambda way: jax.lax.switch(way, ways, angle), jnp.arange(2))
        cos, sin = both[0], both[1]
    else:
        cos, sin = jnp.cos(angle), jnp.sin(angle)
    if rope.magnitude != 1.0:
        cos, sin = cos * rope.magnitude, sin * rope.magnitude
    return cos, sin


def rotate(
    x: Float[Array, "B N T K"], cos: Float[Array, "B 1 T W"], sin: Float[Array, "B 1 T W"]
) -> Float[Array, "B N T K"]:
    """Turn the first W features: of these, feature i pairs with feature i + W/2."""
    width = cos.shape[-1]
    turning, still = x[..., :width], x[..., width:]
    half = width // 2
    turned = jnp.concatenate([-turning[..., half:], turning[..., :half]], axis=-1)
    turned = turning * cos + turned * sin
    return turned if width == x.shape[-1] else jnp.concatenate([turned, still], axis=-1)
