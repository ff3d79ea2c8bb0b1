"""The toolkit's engine on a decoder of given sizes, with random weights made on the device."""

from __future__ import annotations

import gc
import queue
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from experiments.benchmarks.engines.parts import Parts, alternate
from experiments.benchmarks.mixes import MIXES, NEUTRAL_TO
from toolkit.engine.engine import Engine as Runner
from toolkit.engine.job import Ended, Event, Failed, Job, Tokens
from toolkit.engine.scheduler import Limits
from toolkit.models.attention import Backend, read, suited
from toolkit.models.cache import LayerCache
from toolkit.models.config import Layer, ModelConfig, Rope
from toolkit.models.decoder import Decoder
from toolkit.sampling.params import SamplingParams

PASSES, STEPS = 5, 4
BACKENDS: tuple[Backend, ...] = ("products", "fused")
LARGE, SMALL = 2**30, 2**24
"""Bytes of the array whose sum is the yardstick: on an accelerator far more than its caches."""


class Engine:
    """A decoder with random weights: bfloat16, on CPU float32."""

    def __init__(self, *, family: str, sizes: dict[str, Any]):
        self.config = config_of(family, sizes)
        self.cpu = jax.default_backend() == "cpu"
        self.decoder = random_decoder(self.config, jnp.float32 if self.cpu else jnp.bfloat16)
        self.runner: Runner | None = None

    def about(self) -> dict[str, Any]:
        """The device."""
        return {"device": jax.devices()[0].device_kind}

    def decode(self, rows: int, context: int, count: int) -> dict[str, Any]:
        """Rows of one prompt that end with `context` tokens, `count` of them new.

        `decoding`: seconds from the first token of the last row to the end.
        """
        runner = self._runner(rows, context)
        prompt = tuple(int(i) for i in np.arange(context - count) % self.config.vocab_size)
        jobs = [
            Job(prompt=prompt, params=SamplingParams(temperature=0.8, seed=i), max_tokens=count)
            for i in range(rows)
        ]
        began = time.perf_counter()
        tickets, events = runner.submit(jobs)
        first, ended, made = times(events, len(tickets))
        return {
            "rows": rows,
            "made": made,
            "first": first - began,
            "seconds": ended - began,
            "decoding": ended - first,
            "compiled": len(runner.stats.compiles),
        }

    def _runner(self, rows: int, context: int) -> Runner:
        """An engine for so many rows. The one before gives its memory back."""
        if self.runner is None or self.runner.limits.max_rows != rows:
            self._close()
            self.runner = Runner(self.decoder, limits=Limits(max_rows=rows, context=context))
        return self.runner

    def _close(self) -> None:
        if self.runner is not None:
            self.runner.close()
            self.runner = None
            gc.collect()  # the batch's cache must be gone before the next one is made

    def parts(self, rows: int, context: int) -> dict[str, Any]:
        """Seconds of a step's parts with a cache of `context` slots, and what a step reads."""
        self._close()
        whole = Parts.of(self.decoder)
        mixes = {name: mix for name, mix in MIXES.items() if name not in NEUTRAL_TO}
        acts = {name: whole.whole(self._within(mix), rows) for name, mix in mixes.items()}
        state = whole.state(rows, context, position=context // 2)
        found = alternate({"network": whole.network, **acts}, state, steps=STEPS, passes=PASSES)
        x = jnp.ones((rows, self.config.width), whole.dtype)
        products = alternate({"products": whole.products}, x, steps=STEPS, passes=PASSES)
        return {
            "network": found.pop("network"),
            "steps": found,
            **products,
            "bytes": self._bytes(whole, rows, context),
            "bandwidth": bandwidth(SMALL if self.cpu else LARGE),
        }

    def attention(self, rows: int, queries: int, slots: int) -> dict[str, Any]:
        """Seconds of one layer's attention by each back end, for the last `queries` of `slots`
        tokens, and by how much the two differ."""
        c, dtype = self.config, jnp.float32 if self.cpu else jnp.bfloat16
        keys = jax.random.split(jax.random.key(0), 3)
        q = jax.random.normal(keys[0], (rows, c.heads, queries, c.head_width), dtype)
        shape = rows * c.kv_heads, slots, c.head_width
        k, v = (jax.random.normal(key, shape, dtype) for key in keys[1:])
        start = jnp.full(rows, slots - queries, jnp.int32)

        def act(backend: Backend):
            return jax.jit(
                lambda q, k, v: read(q, LayerCache(keys=k, values=v), start, backend=backend)
            )

        found = {name: act(name) for name in BACKENDS}
        one, other = (np.asarray(run(q, k, v), np.float32) for run in found.values())
        return {
            "seconds": {name: quickest(run, q, k, v) for name, run in found.items()},
            "gap": float(np.abs(one - other).max()),
            "taken": suited(q.dtype, queries, c.head_width, c.attention_cap),
        }

    def _within(self, mix: dict[str, Any]) -> dict[str, Any]:
        """A mix whose bias names ids of this vocabulary only."""
        size = self.config.vocab_size
        bias = {i: value for i, value in mix.get("logit_bias", {}).items() if int(i) < size}
        return {**mix, "logit_bias": bias} if bias else mix

    def _bytes(self, whole: Parts, rows: int, context: int) -> int:
        """Weights once and a cache that is full, as it is at the end."""
        c = self.config
        cache = 2 * rows * context * c.layers * c.kv_heads * c.head_width * whole.dtype.itemsize
        return cache + sum(leaf.nbytes for leaf in whole.matrices)


def config_of(family: str, sizes: dict[str, Any]) -> ModelConfig:
    """The configuration of a shape."""
    parts = {
        "rope": Rope(**sizes.get("rope", {})),
        "kinds": tuple(Layer(**kind) for kind in sizes.get("kinds", ())),
    }
    return ModelConfig(**{"family": family, "context": 8192, **sizes, **parts})


def random_decoder(config: ModelConfig, dtype: Any) -> Decoder:
    """A decoder whose weights are drawn on the device, leaf by leaf."""
    abstract = nnx.eval_shape(lambda: Decoder(config, rngs=nnx.Rngs(0), dtype=dtype))
    graph, state = nnx.split(abstract)
    leaves, structure = jax.tree.flatten(state)
    drawn = [_random(i, leaf.shape, leaf.dtype) for i, leaf in enumerate(leaves)]
    return nnx.merge(graph, jax.tree.unflatten(structure, drawn))


def _random(number: int, shape: tuple[int, ...], dtype: Any) -> jax.Array:
    """Matrices as at the start of training, vectors of ones."""

    @jax.jit
    def make(key: jax.Array) -> jax.Array:
        if len(shape) < 2:
            return jnp.ones(shape, dtype)
        return jax.random.normal(key, shape, dtype) * jnp.asarray(shape[-1] ** -0.5, dtype)

    return make(jax.random.key(number))


def times(events: queue.SimpleQueue[Event], count: int) -> tuple[float, float, int]:
    """When each of `count` tickets had had its first token, when all had ended, how many tokens
    came."""
    begun: set[int] = set()
    first, made = 0.0, 0
    while count:
        event = events.get()
        if isinstance(event, Failed):
            raise event.error
        if isinstance(event, Tokens):
            made += len(event.tokens)
            if id(event.ticket) not in begun:
                begun.add(id(event.ticket))
                first = time.perf_counter()
        elif isinstance(event, Ended):
            count -= 1
    return first, time.perf_counter(), made


def bandwidth(size: int) -> float:
    """Bytes a second that a sum over an array of `size` bytes reads."""
    return size / quickest(jax.jit(jnp.sum), jnp.ones(size // 4, jnp.float32))


def quickest(run: Callable[..., Any], *args: jax.Array) -> float:
    """Seconds of the quickest of some calls; the first one, which compiles, does not count."""
    seconds = []
    for _ in range(1 + PASSES):
        began = time.perf_counter()
        jax.block_until_ready(run(*args))
        seconds.append(time.perf_counter() - began)
    return min(seconds[1:])
