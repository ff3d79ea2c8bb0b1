"""Prompts of different lengths, one after another in a single row of tokens."""

from __future__ import annotations

import dataclasses

import jax
import numpy as np
from jaxtyping import Array, Float, Int, Shaped


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Packing:
    """Where the tokens of R prompts lie among P packed ones.

    What treats every token by itself, nearly all of the work, sees the packed row, which has no
    padding between prompts; attention sees a grid with a row for each prompt, `[R, T]`.
    """

    token: Int[Array | np.ndarray, "R T"]
    """Which of the packed tokens stands at each place of the grid; any where there is none."""
    place: Int[Array | np.ndarray, "P"]
    """Place of each packed token in the grid, counted along its rows."""

    @classmethod
    def of(cls, lengths: list[int], *, rows: int, width: int, tokens: int) -> Packing:
        """Prompts of these lengths, at most `rows` of them, each at most `width` long, and at most
        `tokens` in all."""
        token = np.zeros((rows, width), np.int32)
        place = np.zeros((tokens,), np.int32)
        ends = np.cumsum(lengths)
        for row, (length, end) in enumerate(zip(lengths, ends, strict=True)):
            packed = np.arange(end - length, end, dtype=np.int32)
            token[row, :length] = packed
            place[packed] = row * width + np.arange(length, dtype=np.int32)
        return cls(token=token, place=place)

    def spread(self, x: Float[Array, "1 P N"]) -> Float[Array, "R T N"]:
        """From the packed row to the grid."""
        return x[0][self.token]

    def gathered(self, x: Shaped[Array, "R T *N"]) -> Shaped[Array, "1 P *N"]:
        """From the grid to the packed row."""
        return x.reshape(-1, *x.shape[2:])[self.place][None]
