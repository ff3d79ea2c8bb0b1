"""The jitted functions, nothing else.

    prefill   one chunk of prompts into a cache of their own    -> cache, last tokens' logits
    insert    a prompt's cache and logits into a row            -> state
    first     the first token of rows that were just inserted   -> state, drawn
    decode    K times: one token through the network, one drawn -> state, drawn[K]
    take_row  a sequence out of its row                         -> state of one row
    put_row   that into a row of another bucket                 -> state

Each takes the decoder as flat leaves. A state that goes in is donated: its memory becomes that of
the state that comes out. On a mesh each is the same function of one device's part of the arrays,
under `jax.shard_map`; the prompts' own caches are the same on all devices along "data".
"""

from __future__ import annotations

import collections
import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float, Int

from toolkit import kernels
from toolkit.engine.programs import note_trace
from toolkit.engine.scheduler import SLOTS
from toolkit.engine.state import (
    DRAWN,
    ONE_LOGITS,
    PROMPT_LOGITS,
    PROMPTS,
    ROWS,
    SAME,
    STATE,
    Arrival,
    DecodeState,
    accept,
    resized,
)
from toolkit.models.cache import KVCache
from toolkit.models.compiler import jit
from toolkit.models.config import ModelConfig
from toolkit.models.decoder import Decoder
from toolkit.models.sharding import DATA, Split
from toolkit.sampling.logprobs import score
from toolkit.sampling.sample import sample
from toolkit.sampling.transforms import History
from toolkit.sampling.variant import Variant
from toolkit.sampling.vocabulary import columns_of, ids_of, largest, parts

SCORE_ROWS = 32
"""Positions whose logits exist at one time while a prompt is scored."""
MORE_ROWS = 256
"""The same with the compiled kernels, which want more of them."""


@dataclasses.dataclass(frozen=True)
class Steps:
    """The compiled functions of one decoder."""

    config: ModelConfig
    part: ModelConfig
    """What one device computes: on a mesh a part of the model, else all of it."""
    rebuild: Callable[[tuple], Decoder]
    """From flat leaves to the module, while a function is traced."""
    split: Split | None = None
    places: tuple[Any, ...] = ()
    """Where each leaf lies on the mesh."""
    traces: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)
    """How often each function was traced: a second trace is a second program."""

    def traced(self, name: str) -> None:
        """Called in each function's body: it runs once for each program."""
        self.traces[name] += 1
        note_trace()

    @classmethod
    def of(cls, decoder: Decoder, split: Split | None = None) -> tuple[Steps, tuple]:
        """Split a decoder into its functions and its leaves; on a mesh, one that was loaded for
        it."""
        graph, state = nnx.split(decoder)
        leaves, structure = jax.tree.flatten(state)

        def rebuild(leaves: tuple) -> Decoder:
            return nnx.merge(graph, jax.tree.unflatten(structure, leaves))

        steps = cls(
            config=decoder.config if split is None else split.config,
            part=decoder.config,
            rebuild=rebuild,
            split=split,
            places=() if split is None else tuple(leaf.sharding.spec for leaf in leaves),
        )
        return steps, tuple(leaves)

    def _spread(self, body: Callable, inputs: Any, outputs: Any) -> Callable:
        """A function of one device's parts as one of whole arrays, which lie as said."""
        if self.split is None:
            return body
        return jax.shard_map(
            body, mesh=self.split.mesh, in_specs=inputs, out_specs=outputs, check_vma=False
        )

    def _local(self, rows: int) -> int:
        """How many of the rows a device holds."""
        return rows if self.split is None else rows // self.split.data

    def _here(self, row: Array, rows: int) -> tuple[Array, Bool[Array, ""] | None]:
        """A row's number among a device's, and whether it is one of them; None: it always is."""
        if self.split is None or self.split.data == 1:
            return row, None
        row = row - jax.lax.axis_index(DATA) * rows
        mine = (row >= 0) & (row < rows)
        return jnp.where(mine, row, rows), mine

    def _logits(
        self, decoder: Decoder, hidden: Float[Array, "N D"], *, few: bool = True
    ) -> Float[Array, "N V"]:
        """The decoder's; -inf for ids that only fill up the last device's part."""
        logits = decoder.logits(hidden, few=few)
        if logits.shape[1] * parts() == self.config.vocab_size:
            return logits
        return jnp.where(ids_of(logits) < self.config.vocab_size, logits, -jnp.inf)

    def _final_logits(
        self, decoder: Decoder, hidden: Float[Array, "B T D"], last: Int[Array, "R"]
    ) -> Float[Array, "R V"]:
        """The logits after each prompt's last token, whose places are counted along all tokens. At
        least two rows meet the head, so that a prompt has the same bits alone and in a group. They
        are taken twice, not doubled: that would be drawn into the last norm, and rounded anew."""
        twice = last if len(last) > 1 else jnp.concatenate([last, last])
        return self._logits(decoder, hidden.reshape(-1, hidden.shape[-1])[twice])[: len(last)]

    @property
    def _sampling(self) -> Sequence[kernels.Operation]:
        """The compiled kernels of the sampler and of scores."""
        return () if self.config.kernels is None else ("moments", "draw", "count", "largest")

    def put(self, tree: Any, *axes: str) -> Any:
        """NumPy arrays on the device, in memory of their own, so that they may be donated. On a
        mesh, where these first axes say."""
        if self.split is None:
            return jax.device_put(tree, may_alias=False)
        return jax.tree.map(functools.partial(self.split.put, axes=axes), tree)

    def read(self, tree: Any) -> Any:
        """Arrays as NumPy's, whole. Among several processes all must call it at the same point."""
        if self.split is not None and jax.process_count() > 1:
            tree = self._everywhere(tree)
        if jax.default_backend() == "cpu":  # nothing has to be fetched: this is a detour less
            return jax.tree.map(np.asarray, tree)
        return jax.device_get(tree)

    @functools.cached_property
    def _everywhere(self):
        assert self.split is not None, "a device alone holds everything"
        return jit(lambda tree: tree, out_shardings=self.split.sharding())

    @functools.cached_property
    def empty(self):
        """`(rows, slots, dtype) -> state`: an empty batch, made on the device; all are static."""

        def run(rows: int, slots: int, dtype: DTypeLike) -> DecodeState:
            make = functools.partial(
                DecodeState.zeros, self.part, rows=self._local(rows), slots=slots, dtype=dtype
            )
            return self._spread(make, (), STATE)()

        return jit(run, static_argnums=(0, 1, 2))

    @functools.cached_property
    def empty_cache(self):
        """`(rows, slots, dtype) -> cache` of prompts, in the same way."""

        def run(rows: int, slots: int, dtype: DTypeLike) -> KVCache:
            make = functools.partial(KVCache.zeros, self.part, rows=rows, slots=slots, dtype=dtype)
            return self._spread(make, (), PROMPTS)()

        return jit(run, static_argnums=(0, 1, 2))

    @functools.cached_property
    def prefill(self):
        """`(leaves, cache, tokens[B, T], start[R], last[R], packing) -> (cache, logits[R, V])`;
        the cache, of R rows, is donated. Without a packing R is B."""

        def body(leaves, cache, tokens, start, last, packing):
            self.traced("prefill")
            decoder = self.rebuild(leaves)
            hidden, cache = decoder(tokens, start, cache, packing)
            return cache, self._final_logits(decoder, hidden, last)

        inputs = self.places, PROMPTS, SAME, SAME, SAME, SAME
        return jit(self._spread(body, inputs, (PROMPTS, PROMPT_LOGITS)), donate_argnums=1)

    @functools.cached_property
    def prefill_scored(self):
        """`prefill` that also scores each token's successor.

        `(leaves, cache, tokens[B, T], start[R], last[R], packing, targets[B, T], top) -> (cache,
        logits[R, V], Scored[B * T])`. Logits exist for a few positions at a time. `top` is static.
        """

        def body(top, leaves, cache, tokens, start, last, packing, targets):
            self.traced("prefill_scored")
            decoder = self.rebuild(leaves)
            hidden, cache = decoder(tokens, start, cache, packing)
            rows = min(SCORE_ROWS if self.config.kernels is None else MORE_ROWS, tokens.size)
            chunks = hidden.reshape(-1, rows, hidden.shape[-1])

            def chunk(pair):
                logits = self._logits(decoder, pair[0], few=decoder.short(rows))
                with kernels.using(*self._sampling):
                    return score(logits, pair[1], top_ids=largest(logits, top)[1], details=True)

            scored = jax.lax.map(chunk, (chunks, targets.reshape(-1, rows)))
            scored = jax.tree.map(lambda x: x.reshape(tokens.size, *x.shape[2:]), scored)
            return cache, self._final_logits(decoder, hidden, last), scored

        def run(leaves, cache, tokens, start, last, packing, targets, top):
            inputs = self.places, PROMPTS, SAME, SAME, SAME, SAME, SAME
            on_each = self._spread(
                functools.partial(body, top), inputs, (PROMPTS, PROMPT_LOGITS, SAME)
            )
            return on_each(leaves, cache, tokens, start, last, packing, targets)

        return jit(run, donate_argnums=1, static_argnums=7)

    def rows_apart(self, cache: KVCache, logits: Array, rows: int) -> list[tuple[KVCache, Array]]:
        """Each row's own cache and logits; one row's cache is passed on as it is."""
        if rows == 1:
            return [(cache, logits[0])]
        return self.apart(cache, logits, rows)

    @functools.cached_property
    def apart(self):
        """`(cache, logits[R, V], rows) -> [(cache, logits[V])]` of more than one row."""

        heads = self.part.kv_heads

        def body(cache: KVCache, logits):
            self.traced("rows_apart")

            def part(row):
                return jax.tree.map(lambda x: x[row * heads : (row + 1) * heads], cache)

            return [(part(row), logits[row]) for row in range(len(logits))]

        def run(cache: KVCache, logits, rows: int):
            outputs = [(PROMPTS, ONE_LOGITS)] * rows
            return self._spread(body, (PROMPTS, PROMPT_LOGITS), outputs)(cache, logits)

        return jit(run, static_argnums=2)

    @functools.cached_property
    def insert(self):
        """`(state, cache, logits[V], Arrival) -> state`; the state is donated, the cache is not."""

        heads, vocab = self.part.kv_heads, self.part.vocab_size

        def body(state: DecodeState, cache: KVCache, logits, arrival: Arrival) -> DecodeState:
            self.traced("insert")
            row, mine = self._here(jnp.asarray(arrival.row), len(state.token))

            def put(old, new):
                at = row * heads, 0, 0
                new = new[:, : old.shape[1]]
                if mine is not None:
                    new = jnp.where(mine, new, jax.lax.dynamic_slice(old, at, new.shape))
                return jax.lax.dynamic_update_slice(old, new, at)

            history = state.history
            column = columns_of(jnp.asarray(arrival.prompt), vocab)
            seen = jnp.zeros((vocab,), jnp.bool_).at[column].set(True, mode="drop")
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

        return jit(self._spread(body, (STATE, PROMPTS, ONE_LOGITS, SAME), STATE), donate_argnums=0)

    @functools.cached_property
    def first(self):
        """`(state, rows, tables, pending[B], variant) -> (state, Drawn[1, B])`; the state is
        donated."""

        def body(variant: Variant, state, rows, tables, pending):
            self.traced("first")
            with kernels.using(*self._sampling):
                drawn = sample(state.logits, rows, state.history, tables, variant)
                state = accept(state, drawn.token, tables, pending)
            return state, jax.tree.map(lambda x: x[None], drawn)

        def run(state, rows, tables, pending: Bool[Array, "B"], variant: Variant):
            on_each = self._spread(
                functools.partial(body, variant), (STATE, ROWS, SAME, ROWS), (STATE, DRAWN)
            )
            return on_each(state, rows, tables, pending)

        return jit(run, donate_argnums=0, static_argnums=4)

    @functools.cached_property
    def decode(self):
        """`(leaves, state, rows, tables, shared, count, variant) -> (state, Drawn[count, B])`; the
        state is donated."""

        def body(count: int, variant: Variant, leaves, state, rows, tables, shared):
            self.traced("decode")
            decoder = self.rebuild(leaves)

            def step(state: DecodeState, _):
                tokens = state.token[:, None]
                hidden, cache = decoder(tokens, state.position, state.cache, shared=shared)
                logits = self._logits(decoder, hidden[:, 0])
                state = state.after(cache, logits)
                with kernels.using(*self._sampling):
                    drawn = sample(logits, rows, state.history, tables, variant)
                    return accept(state, drawn.token, tables, None), drawn

            if count == 1:
                state, drawn = step(state, None)
                return state, jax.tree.map(lambda x: x[None], drawn)
            return jax.lax.scan(step, state, None, length=count)

        def run(leaves, state, rows, tables, shared, count: int, variant: Variant):
            inputs = self.places, STATE, ROWS, SAME, ROWS
            on_each = self._spread(functools.partial(body, count, variant), inputs, (STATE, DRAWN))
            return on_each(leaves, state, rows, tables, shared)

        return jit(run, donate_argnums=1, static_argnums=(5, 6), decoding=True)

    @functools.cached_property
    def take_row(self):
        """`(state, row[1]) -> state` of that row alone, with at least SLOTS slots. On a mesh a row
        of each group of devices, `row[G]`, counted among the rows of these."""
        heads = self.part.kv_heads

        def body(state: DecodeState, row: Int[Array, "1"]) -> DecodeState:
            self.traced("take_row")

            def take(x):
                own = jax.lax.dynamic_slice_in_dim(x, row[0] * heads, heads)
                return resized(own, max(SLOTS, x.shape[1]))

            return DecodeState(
                cache=jax.tree.map(take, state.cache),
                logits=state.logits[row],
                token=state.token[row],
                position=state.position[row],
                history=jax.tree.map(lambda x: x[row], state.history),
            )

        return jit(self._spread(body, (STATE, ROWS), STATE))

    @functools.cached_property
    def put_row(self):
        """`(state, one, row) -> state` with what `take_row` gave in that row, which has slots for
        what it uses; the state is donated. On a mesh the same row of each group."""
        heads = self.part.kv_heads

        def body(state: DecodeState, one: DecodeState, row) -> DecodeState:
            self.traced("put_row")

            def put(old, new):
                new = resized(new, old.shape[1])
                return jax.lax.dynamic_update_slice(old, new, (row * heads, 0, 0))

            def put_first(old, new):
                return jax.lax.dynamic_update_slice_in_dim(old, new, row, 0)

            return DecodeState(
                cache=jax.tree.map(put, state.cache, one.cache),
                logits=put_first(state.logits, one.logits),
                token=put_first(state.token, one.token),
                position=put_first(state.position, one.position),
                history=jax.tree.map(put_first, state.history, one.history),
            )

        return jit(self._spread(body, (STATE, STATE, SAME), STATE), donate_argnums=0)

    @functools.cached_property
    def stretch(self):
        """`(cache, slots) -> cache`: a copy of one prompt's cache in another bucket of slots."""

        def body(slots: int, cache: KVCache) -> KVCache:
            self.traced("stretch")
            return jax.tree.map(lambda x: resized(x, slots), cache)

        def run(cache: KVCache, slots: int) -> KVCache:
            return self._spread(functools.partial(body, slots), (PROMPTS,), PROMPTS)(cache)

        return jit(run, static_argnums=1)
