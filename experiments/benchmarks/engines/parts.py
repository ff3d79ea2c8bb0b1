"""Parts of a decode step, timed on the device: the whole step, the network in it, the products
with weights in the network.

Unlike the other files here this one looks inside the toolkit: the parts have no call of their own.
"""

from __future__ import annotations

import dataclasses
import functools
import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from toolkit.engine.steps import DecodeState, Steps
from toolkit.models.compiler import jit
from toolkit.models.config import ModelConfig
from toolkit.models.decoder import Decoder
from toolkit.sampling.guide import pack
from toolkit.sampling.params import Report, Rows, SamplingParams
from toolkit.sampling.transforms import PIPELINE
from toolkit.sampling.variant import TOP, Variant

ASKED_OF_REPORT = {"logprobs": "top", "details": "details"}
"""Parameters of a request that change what is reported, and their names there."""


@dataclasses.dataclass(frozen=True)
class Parts:
    """A decoder's compiled pieces."""

    steps: Steps
    leaves: tuple
    config: ModelConfig

    @classmethod
    def of(cls, decoder: Decoder) -> Parts:
        """The pieces of a decoder that no engine holds."""
        steps, leaves = Steps.of(decoder)
        return cls(steps, leaves, decoder.config)

    @property
    def dtype(self) -> Any:
        """Of the weights and of the cache."""
        return self.leaves[0].dtype

    def state(self, rows: int, slots: int, position: int) -> DecodeState:
        """A batch in the middle of its work, made on the device: each row has `position` tokens in
        the cache."""
        make = functools.partial(
            DecodeState.zeros, self.config, rows=rows, slots=slots, dtype=self.dtype
        )
        shapes = jax.eval_shape(make)
        empty = jax.jit(lambda: jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shapes))()
        place = jax.device_put(np.full(rows, position, np.int32))
        token = jax.device_put(np.arange(rows, dtype=np.int32) % self.config.vocab_size)
        return dataclasses.replace(empty, token=token, position=place)

    def whole(self, mix: Mapping[str, Any], rows: int, block: int = 1) -> Callable[[Any], Any]:
        """`state -> state`: `block` steps of `rows` rows that ask for `mix`."""
        asked = rows_of(mix, rows)
        variant = variant_of(asked)
        placed, tables = jax.device_put(asked), jax.device_put(pack([])[0])

        def run(state: DecodeState) -> DecodeState:
            args = self.leaves, state, placed, tables, None, block, variant
            return self.steps.decode(*args)[0]

        return run

    @functools.cached_property
    def network(self) -> Callable[[Any], Any]:
        """`state -> state`: the same step without a draw; the last token stays."""

        def run(leaves: tuple, state: DecodeState) -> DecodeState:
            decoder = self.steps.rebuild(leaves)
            hidden, cache = decoder(state.token[:, None], state.position, state.cache)
            logits = decoder.logits(hidden[:, 0])
            position = state.position + 1
            return dataclasses.replace(state, cache=cache, logits=logits, position=position)

        compiled = jit(run, donate_argnums=1, decoding=True)
        return functools.partial(compiled, self.leaves)

    @functools.cached_property
    def products(self) -> Callable[[Any], Any]:
        """`x[B, D] -> x`: a product with every weight matrix of the network and nothing else.

        Each needs the result of the one before, as in the network. This is the least that any step
        can cost.
        """

        def run(leaves: tuple, x: jax.Array) -> jax.Array:
            small = jnp.asarray(1e-6, x.dtype)
            for leaf in leaves:
                wide = jnp.resize(x, (x.shape[0], leaf.shape[1]))
                y = jax.lax.dot_general(wide, leaf, (((1,), (1,)), ((), ())))
                x = x + small * jnp.sum(y, axis=1, keepdims=True)
            return x

        compiled = jit(run, decoding=True)
        return functools.partial(compiled, self.matrices)

    @property
    def matrices(self) -> tuple:
        """The leaves that a step reads as a whole: of an embedding that is not the head as well, a
        step reads a few rows only."""
        found = [leaf for leaf in self.leaves if leaf.ndim == 2]
        table = (self.config.vocab_size, self.config.width)
        if not self.config.tied_head:
            del found[next(i for i, leaf in enumerate(found) if leaf.shape == table)]
        return tuple(found)


def rows_of(mix: Mapping[str, Any], rows: int) -> Rows:
    """`rows` requests that ask for `mix`, each with a seed of its own."""
    sampling = {k: v for k, v in mix.items() if k not in (*ASKED_OF_REPORT, "seed")}
    bias = {int(k): v for k, v in sampling.pop("logit_bias", {}).items()}
    report = Report(**{ASKED_OF_REPORT[k]: v for k, v in mix.items() if k in ASKED_OF_REPORT})
    params = [SamplingParams(**sampling, logit_bias=bias, seed=seed) for seed in range(rows)]
    return Rows.stack(params, [report] * rows)


def variant_of(rows: Rows) -> Variant:
    """The program for such rows: one for all of them on CPU, elsewhere what they need."""
    if jax.default_backend() == "cpu":
        return Variant()
    history: Any = _NewHistory(len(rows.temperature))
    needed = {stage.name for stage in PIPELINE if np.any(np.asarray(stage.active(rows, history)))}
    return Variant(
        stages=frozenset(needed),
        top=TOP if np.any(rows.top) else 0,
        details=bool(np.any(rows.details)),
        guarded=False,
    )


class _NewHistory:
    """What stages look at to know whether a row needs them, for rows without a guide."""

    def __init__(self, rows: int):
        self.node = self.step = np.zeros(rows, np.int32)


def seconds(act: Callable[[Any], Any], carried: Any, steps: int) -> tuple[float, Any]:
    """Seconds of one of `steps` calls in a row, and what the last one gave."""
    jax.block_until_ready(carried)
    began = time.perf_counter()
    for _ in range(steps):
        carried = act(carried)
    jax.block_until_ready(carried)
    return (time.perf_counter() - began) / steps, carried


def alternate(
    acts: Mapping[str, Callable[[Any], Any]], carried: Any, *, steps: int, passes: int
) -> dict[str, float]:
    """Median seconds a call of each of `acts`, one after another in every pass, on one state."""
    found: dict[str, list[float]] = {name: [] for name in acts}
    for act in acts.values():
        _, carried = seconds(act, carried, 2)
    for _ in range(passes):
        for name, act in acts.items():
            taken, carried = seconds(act, carried, steps)
            found[name].append(taken)
    return {name: statistics.median(taken) for name, taken in found.items()}
