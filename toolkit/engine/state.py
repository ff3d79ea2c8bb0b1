"""What a decode step needs of the step before it, and where it lies on a mesh."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float, Int

from toolkit.models.cache import KVCache
from toolkit.models.config import ModelConfig
from toolkit.models.sharding import spec
from toolkit.sampling.guide import GuideTables, advance
from toolkit.sampling.transforms import History


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class DecodeState:
    """Everything that a decode step needs of the step before it, a row a sequence."""

    cache: KVCache
    logits: Float[Array, "B V"]
    """Of rows that wait for their first token, whose prompt gave them; the others' are stale, and a
    step puts its own there: a large array of every step's own would be new memory each time."""
    token: Int[Array, "B"]
    """Drawn last, not yet in the cache."""
    position: Int[Array, "B"]
    """Tokens in the cache, which is the slot that `token` will take."""
    history: History

    @classmethod
    def zeros(cls, config: ModelConfig, *, rows: int, slots: int, dtype: DTypeLike) -> DecodeState:
        """An empty batch."""

        def empty(kind: DTypeLike, *shape: int) -> Array:
            return jnp.zeros((rows, *shape), kind)

        vocab = config.vocab_size
        return cls(
            cache=KVCache.zeros(config, rows=rows, slots=slots, dtype=dtype),
            logits=empty(jnp.float32, vocab),
            token=empty(jnp.int32),
            position=empty(jnp.int32),
            history=History(
                step=empty(jnp.int32),
                counts=empty(jnp.int32, vocab),
                prompted=empty(jnp.bool_, vocab),
                node=empty(jnp.int32),
            ),
        )

    def after(self, cache: KVCache, logits: Float[Array, "B V"]) -> DecodeState:
        """When the last tokens went through the network."""
        return dataclasses.replace(self, cache=cache, logits=logits, position=self.position + 1)


STATE = DecodeState(
    cache=spec(("batch", "kv_heads")),
    logits=spec("batch", "vocab"),
    token=spec("batch"),
    position=spec("batch"),
    history=History(
        step=spec("batch"),
        counts=spec("batch", "vocab"),
        prompted=spec("batch", "vocab"),
        node=spec("batch"),
    ),
)
"""Where a state lies on a mesh. The rows of a cache are numbered device by device."""
ROWS, DRAWN, SAME = spec("batch"), spec(None, "batch"), spec()
PROMPTS, PROMPT_LOGITS, ONE_LOGITS = spec("kv_heads"), spec(None, "vocab"), spec("vocab")


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Arrival:
    """A sequence on its way into a row: where it goes, how long its prompt is, where its guide
    starts."""

    row: Int[Array | np.ndarray | np.integer, ""]
    length: Int[Array | np.ndarray | np.integer, ""]
    node: Int[Array | np.ndarray | np.integer, ""]
    prompt: Int[Array | np.ndarray, "S"]
    """The prompt's ids, padded with the vocabulary's size."""


def accept(
    state: DecodeState, token: Int[Array, "B"], tables: GuideTables, which: Bool[Array, "B"] | None
) -> DecodeState:
    """Make the drawn tokens the rows' last ones; `which` None means all rows."""
    history = state.history
    one = jnp.ones_like(token) if which is None else which.astype(jnp.int32)
    node = advance(tables, history.node, token)
    if which is not None:
        token = jnp.where(which, token, state.token)
        node = jnp.where(which, node, history.node)
    return dataclasses.replace(
        state,
        token=token,
        history=History(
            step=history.step + one,
            counts=history.counted(token, one),
            prompted=history.prompted,
            node=node,
        ),
    )


def resized(x: Float[Array, "BH S K"], slots: int) -> Float[Array, "BH S2 K"]:
    """Cut or pad the slots."""
    if slots <= x.shape[1]:
        return x[:, :slots]
    return jnp.pad(x, ((0, 0), (0, slots - x.shape[1]), (0, 0)))
