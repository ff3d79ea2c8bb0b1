"""What a request may ask of the sampler: one request (`SamplingParams`) and a batch of them
(`Rows`).

Every field has a neutral value that changes nothing, and every field is a row of an array: another
value never compiles another program. Only a `logit_bias` of more than 512 entries makes the array
of its row wider, which is another program, compiled once.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jaxtyping import Array, Bool, Float, Int, UInt32


@dataclasses.dataclass(frozen=True, kw_only=True)
class SamplingParams:
    """Sampling parameters of one sequence. Ranges are checked in `toolkit.completion.request`."""

    temperature: float = 1.0
    """Logits are divided by it; 0 takes the largest logit, the lowest id among equals."""
    top_p: float = 1.0
    """Smallest set of tokens whose mass is at least this; 1 keeps all, 0 keeps one."""
    top_k: int = 0
    """The k most probable tokens; 0 keeps all."""
    min_p: float = 0.0
    """Tokens with at least this share of the largest probability; 0 keeps all."""
    typical_p: float = 1.0
    """Smallest set of the most typical tokens whose mass is at least this; 1 keeps all."""
    repetition_penalty: float = 1.0
    """Divides positive and multiplies negative logits of tokens in the prompt or the completion."""
    frequency_penalty: float = 0.0
    """Subtracted once for each earlier occurrence in the completion."""
    presence_penalty: float = 0.0
    """Subtracted once from each token that occurs in the completion."""
    logit_bias: Mapping[int, float] = dataclasses.field(default_factory=dict)
    """Added to the logits of the given ids."""
    seed: int = 0
    """Any 64-bit signed integer; all 64 bits reach the key."""
    choice: int = 0
    """Number of the candidate among those of one prompt; with `seed` and the position it keys a
    draw."""
    min_tokens: int = 0
    """Stop ids cannot be drawn before this many tokens."""
    stop_ids: tuple[int, ...] = ()
    """Ids that end a sequence and that `min_tokens` holds back."""


STOP_IDS = 80
"""Stop ids of one row that `min_tokens` can hold back."""
BIASES = 512
"""Bias entries of one row in the smallest bucket; more make the array wider, eight times a step."""


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Rows:
    """The sampling parameters of a batch: one row a sequence, NumPy arrays with fixed dtypes.

    Made on the host and uploaded as they are when a row changes. `bias_ids` and `stop_ids` are
    padded with -1.
    """

    temperature: Float[Array, "B"]
    top_p: Float[Array, "B"]
    top_k: Int[Array, "B"]
    min_p: Float[Array, "B"]
    typical_p: Float[Array, "B"]
    repetition_penalty: Float[Array, "B"]
    frequency_penalty: Float[Array, "B"]
    presence_penalty: Float[Array, "B"]
    bias_ids: Int[Array, "B M"]
    bias_values: Float[Array, "B M"]
    seed: UInt32[Array, "B 2"]
    choice: UInt32[Array, "B"]
    min_tokens: Int[Array, "B"]
    stop_ids: Int[Array, "B N"]
    top: Int[Array, "B"]
    details: Bool[Array, "B"]
    processed: Bool[Array, "B"]

    @classmethod
    def stack(cls, batch: Sequence[SamplingParams], reports: Sequence[Report]) -> Rows:
        """One row for each request, in order."""
        width = bucket(max(len(p.logit_bias) for p in batch), BIASES)
        return cls(
            temperature=_floats(p.temperature for p in batch),
            top_p=_floats(p.top_p for p in batch),
            top_k=_ints(min(p.top_k, 2**31 - 1) for p in batch),
            min_p=_floats(p.min_p for p in batch),
            typical_p=_floats(p.typical_p for p in batch),
            repetition_penalty=_floats(p.repetition_penalty for p in batch),
            frequency_penalty=_floats(p.frequency_penalty for p in batch),
            presence_penalty=_floats(p.presence_penalty for p in batch),
            bias_ids=_padded((p.logit_bias.keys() for p in batch), width, -1, np.int32),
            bias_values=_padded((p.logit_bias.values() for p in batch), width, 0, np.float32),
            seed=_array([seed_words(p.seed) for p in batch], np.uint32),
            choice=_array([p.choice for p in batch], np.uint32),
            min_tokens=_ints(p.min_tokens for p in batch),
            stop_ids=_padded((p.stop_ids for p in batch), STOP_IDS, -1, np.int32),
            top=_ints(r.top for r in reports),
            details=_array([r.details for r in reports], np.bool_),
            processed=_array([r.processed for r in reports], np.bool_),
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Report:
    """What is reported about each token of a sequence beside its logprob."""

    top: int = 0
    """Most probable alternatives, with their logprobs."""
    details: bool = False
    """Rank, entropies, support, kept mass, bias and penalty."""
    processed: bool = False
    """Take the alternatives by the distribution drawn from instead of the model's own."""


def seed_words(seed: int) -> tuple[int, int]:
    """High and low 32 bits of a 64-bit seed in two's complement, the data of `jax.random.key(seed)`
    under x64."""
    bits = seed & 0xFFFF_FFFF_FFFF_FFFF
    return bits >> 32, bits & 0xFFFF_FFFF


def bucket(need: int, smallest: int, factor: int = 8) -> int:
    """The first of `smallest`, `smallest * factor`, ... that is at least `need`."""
    size = smallest
    while size < need:
        size *= factor
    return size


def _array(values: Sequence[Any], dtype: type) -> Any:
    """A NumPy array where a device array is declared: it becomes one when it is uploaded."""
    return np.asarray(values, dtype)


def _floats(values: Iterable[float]) -> Any:
    """What is below the smallest normal float32 counts as 0, as it does on most devices anyway."""
    rounded = np.asarray(list(values), np.float32)
    return np.where(np.abs(rounded) < np.finfo(np.float32).tiny, np.float32(0), rounded)


def _ints(values: Iterable[int]) -> Any:
    return _array(list(values), np.int32)


def _padded(rows: Iterable[Iterable[float]], width: int, fill: float, dtype: type) -> Any:
    lists = [list(row) for row in rows]
    out = np.full((len(lists), width), fill, dtype)
    for i, values in enumerate(lists):
        out[i, : len(values)] = values
    return out
