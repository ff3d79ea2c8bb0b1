"""The jitted functions and the state they pass on, nothing else.

    prefill   one chunk of prompts into a cache of their own    -> cache, last tokens' logits
    insert    a prompt's cache and logits into a row            -> state
    first     the first token of rows that were just inserted   -> state, drawn
    decode    K times: one token through the network, one drawn -> state, drawn[K]
    resize    the same rows in another bucket of rows or slots  -> state

Each takes the decoder as flat leaves. A state that goes in is donated: its memory becomes that of
the state that comes out.
"""

from __future__ import annotations

import collections
import dataclasses
import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float, Int

from toolkit.models.cache import KVCache, upload
from toolkit.models.config import ModelConfig
from toolkit.models.decoder import Decoder
from toolkit.sampling.guide import GuideTables, advance
from toolkit.sampling.logprobs import score
from toolkit.sampling.sample import Variant, sample
from toolkit.sampling.transforms import History

SCORE_ROWS = 32
"""Positions whose logits exist at one time while a prompt is scored."""


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class DecodeState:
    """Everything that a decode step needs of the step before it, a row a sequence."""

    cache: KVCache
    logits: Float[Array, "B V"]
    """Of rows that wait for their first token; the others' are stale."""
    token: Int[Array, "B"]
    """Drawn last, not yet in the cache."""
    position: Int[Array, "B"]
    """Tokens in the cache, which is the slot that `token` will take."""
    history: History

    @classmethod
    def zeros(cls, config: ModelConfig, *, rows: int, slots: int, dtype: DTypeLike) -> DecodeState:
        """An empty batch."""

        def empty(kind: type, *shape: int) -> Array:
            return upload(np.zeros((rows, *shape), kind))

        vocab = config.vocab_size
        return cls(
            cache=KVCache.zeros(config, rows=rows, slots=slots, dtype=dtype),
            logits=empty(np.float32, vocab),
            token=empty(np.int32),
            position=empty(np.int32),
            history=History(
                step=empty(np.int32),
                counts=empty(np.int32, vocab),
                prompted=empty(np.bool_, vocab),
                node=empty(np.int32),
            ),
        )


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


@dataclasses.dataclass(frozen=True)
class Steps:
    """The compiled functions of one decoder."""

    config: ModelConfig
    rebuild: Callable[[tuple], Decoder]
    """From flat leaves to the module, while a function is traced."""
    traces: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)
    """How often each function was traced: a second trace is a second program."""

    @classmethod
    def of(cls, decoder: Decoder) -> tuple[Steps, tuple]:
        """Split a decoder into its functions and its leaves."""
        graph, state = nnx.split(decoder)
        leaves, structure = jax.tree.flatten(state)

        def rebuild(leaves: tuple) -> Decoder:
            return nnx.merge(graph, jax.tree.unflatten(structure, leaves))

        return cls(config=decoder.config, rebuild=rebuild), tuple(leaves)

    @functools.cached_property
    def prefill(self):
        """`(leaves, cache, tokens[B, T], start[B], last[B]) -> (cache, logits[B, V])`; the cache
        is donated."""

        def run(leaves, cache, tokens, start, last):
            self.traces["prefill"] += 1
            decoder = self.rebuild(leaves)
            hidden, cache = decoder(tokens, start, cache)
            return cache, final_logits(decoder, hidden, last)

        return jax.jit(run, donate_argnums=1)

    @functools.cached_property
    def prefill_scored(self):
        """`prefill` that also scores each token's successor.

        `(leaves, cache, tokens[B, T], start[B], last[B], targets[B, T], top) -> (cache,
        logits[B, V], Scored[B * T])`. Logits exist for a few positions at a time. `top` is static.
        """

        def run(leaves, cache, tokens, start, last, targets, top):
            self.traces["prefill_scored"] += 1
            decoder = self.rebuild(leaves)
            hidden, cache = decoder(tokens, start, cache)
            rows = min(SCORE_ROWS, tokens.size)
            chunks = hidden.reshape(-1, rows, hidden.shape[-1])

            def chunk(pair):
                logits = decoder.logits(pair[0])
                width = min(top, logits.shape[1])
                return score(logits, pair[1], top_ids=jax.lax.top_k(logits, width)[1], details=True)

            scored = jax.lax.map(chunk, (chunks, targets.reshape(-1, rows)))
            scored = jax.tree.map(lambda x: x.reshape(tokens.size, *x.shape[2:]), scored)
            return cache, final_logits(decoder, hidden, last), scored

        return jax.jit(run, donate_argnums=1, static_argnums=6)

    def rows_apart(self, cache: KVCache, logits: Array, rows: int) -> list[tuple[KVCache, Array]]:
        """Each row's own cache and logits; one row's cache is passed on as it is."""
        if rows == 1:
            return [(cache, logits[0])]
        return self._rows_apart(cache, logits, rows)

    @functools.cached_property
    def _rows_apart(self):
        def run(cache: KVCache, logits, rows: int):
            self.traces["rows_apart"] += 1
            heads = self.config.kv_heads

            def part(row):
                return jax.tree.map(lambda x: x[row * heads : (row + 1) * heads], cache)

            return [(part(row), logits[row]) for row in range(rows)]

        return jax.jit(run, static_argnums=2)

    @functools.cached_property
    def insert(self):
        """`(state, cache, logits[V], Arrival) -> state`; the state is donated, the cache is not."""

        def run(state: DecodeState, cache: KVCache, logits, arrival: Arrival) -> DecodeState:
            self.traces["insert"] += 1
            heads, row = self.config.kv_heads, arrival.row

            def put(old, new):
                slots = min(old.shape[1], new.shape[1])
                return jax.lax.dynamic_update_slice(old, new[:, :slots], (row * heads, 0, 0))

            history = state.history
            vocab = self.config.vocab_size
            seen = jnp.zeros((vocab,), jnp.bool_).at[arrival.prompt].set(True, mode="drop")
            return DecodeState(
                cache=jax.tree.map(put, state.cache, cache),
                logits=state.logits.at[row].set(logits),
                token=state.token,
                position=state.position.at[row].set(arrival.length),
                history=History(
                    step=history.step.at[row].set(0),
                    counts=history.counts.at[row].set(0),
                    prompted=history.prompted.at[row].set(seen),
                    node=history.node.at[row].set(arrival.node),
                ),
            )

        return jax.jit(run, donate_argnums=0)

    @functools.cached_property
    def first(self):
        """`(state, rows, tables, pending[B], variant) -> (state, Drawn[1, B])`; the state is
        donated."""

        def run(state, rows, tables, pending: Bool[Array, "B"], variant: Variant):
            self.traces["first"] += 1
            drawn = sample(state.logits, rows, state.history, tables, variant)
            state = accept(state, drawn.token, tables, pending)
            return state, jax.tree.map(lambda x: x[None], drawn)

        return jax.jit(run, donate_argnums=0, static_argnums=4)

    @functools.cached_property
    def decode(self):
        """`(leaves, state, rows, tables, count, variant) -> (state, Drawn[count, B])`; donated."""

        def run(leaves, state, rows, tables, count: int, variant: Variant):
            self.traces["decode"] += 1
            decoder = self.rebuild(leaves)

            def step(state: DecodeState, _):
                hidden, cache = decoder(state.token[:, None], state.position, state.cache)
                logits = decoder.logits(hidden[:, 0])
                drawn = sample(logits, rows, state.history, tables, variant)
                state = dataclasses.replace(state, cache=cache, position=state.position + 1)
                return accept(state, drawn.token, tables, None), drawn

            if count == 1:
                state, drawn = step(state, None)
                return state, jax.tree.map(lambda x: x[None], drawn)
            return jax.lax.scan(step, state, None, length=count)

        return jax.jit(
            run, donate_argnums=1, static_argnums=(4, 5), compiler_options=compiler_options()
        )

    @functools.cached_property
    def resize(self):
        """`(state, source[B'], slots) -> state` with row i from row `source[i]`; `slots` is
        static."""

        def run(state: DecodeState, source: Int[Array, "B"], slots: int) -> DecodeState:
            self.traces["resize"] += 1
            heads = self.config.kv_heads
            index = source[:, None] * heads + jnp.arange(heads, dtype=jnp.int32)[None, :]

            def move(x):
                return resized(x[index.reshape(-1)], slots)

            return DecodeState(
                cache=jax.tree.map(move, state.cache),
                logits=state.logits[source],
                token=state.token[source],
                position=state.position[source],
                history=jax.tree.map(lambda x: x[source], state.history),
            )

        return jax.jit(run, static_argnums=2)

    @functools.cached_property
    def stretch(self):
        """`(cache, slots) -> cache`: a copy of one prompt's cache in another bucket of slots."""

        def run(cache: KVCache, slots: int) -> KVCache:
            self.traces["stretch"] += 1
            return jax.tree.map(lambda x: resized(x, slots), cache)

        return jax.jit(run, static_argnums=1)


def compiler_options() -> dict[str, int]:
    """What the decode step is compiled with: on CPU the widest vectors, 5 % faster where memory is
    the limit and without effect on processors that lack them."""
    return {"xla_cpu_prefer_vector_width": 512} if jax.default_backend() == "cpu" else {}


def final_logits(
    decoder: Decoder, hidden: Float[Array, "B T D"], last: Int[Array, "B"]
) -> Float[Array, "B V"]:
    """The logits after each prompt's last token. At least two rows meet the head, so that a prompt
    has the same bits alone and in a group."""
    final = jnp.take_along_axis(hidden, last[:, None, None], axis=1)[:, 0]
    if len(final) > 1:
        return decoder.logits(final)
    return decoder.logits(jnp.concatenate([final, final]))[:1]


def accept(
    state: DecodeState, token: Int[Array, "B"], tables: GuideTables, which: Bool[Array, "B"] | None
) -> DecodeState:
    """Make the drawn tokens the rows' last ones; `which` None means all rows."""
    history = state.history
    rows = jnp.arange(token.shape[0], dtype=jnp.int32)
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
            counts=history.counts.at[rows, token].add(one),
            prompted=history.prompted,
            node=node,
        ),
    )


def resized(x: Float[Array, "BH S K"], slots: int) -> Float[Array, "BH S2 K"]:
    """Cut or pad the slots."""
    if slots <= x.shape[1]:
        return x[:, :slots]
    return jnp.pad(x, ((0, 0), (0, slots - x.shape[1]), (0, 0)))
