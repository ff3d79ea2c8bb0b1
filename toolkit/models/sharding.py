"""A model on many devices: which axes of its arrays are divided, and what one device holds.

The mesh has two axes. Along "data" the rows of a batch are divided; along "model" the heads, the
hidden features of the MLPs and the vocabulary (tensor parallelism, Shoeybi et al. 2019, arXiv
1909.08053). Every device runs the same program, which is that of a smaller model (`Split.part`)
plus the places where the parts are added: after attention and after the MLP of each layer, and
where a token's embedding is looked up. These are written out, under `jax.shard_map`, and not left
to XLA's partitioner, so that nothing else moves between devices.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Float, Int

from toolkit.errors import InvalidRequest
from toolkit.models.config import ModelConfig

DATA, MODEL = "data", "model"

RULES: Mapping[str, str | None] = {
    "batch": DATA,
    "heads": MODEL,
    "kv_heads": MODEL,
    "hidden": MODEL,
    "vocab": MODEL,
    "width": None,
}
"""Axis of an array -> axis of the mesh that divides it; None: it is whole on each device."""

AXES: Mapping[str, tuple[str, ...]] = {
    "embedding": ("vocab", "width"),
    "head.kernel": ("vocab", "width"),
    "qkv.kernel": ("heads", "width"),
    "qkv.bias": ("heads",),
    "output.kernel": ("width", "heads"),
    "gate_up.kernel": ("hidden", "width"),
    "gate_up.bias": ("hidden",),
    "down.kernel": ("width", "hidden"),
    "mixture.gate_up": ("hidden", "width"),
    "mixture.down": ("width", "hidden"),
}
"""Leaf, without the number of its block -> its axes. Leaves that are not here are whole."""

VOCAB_BLOCK = 256
"""A device holds whole blocks of so many ids, so that a draw meets the same blocks on every mesh.
The last one may hold ids that the vocabulary lacks; their logits are -inf."""

MOST_DATA = 128
"""Largest size of "data": it divides every batch, and batches have up to 256 rows."""

_WHOLE_NORMS = ("query_norm.scale", "key_norm.scale")


def spec(*axes: str | tuple[str, ...] | None) -> Any:
    """Where the axes of an array lie on the mesh, by RULES; a tuple is one axis made of several."""

    def place(axis: str | tuple[str, ...] | None) -> Any:
        if isinstance(axis, tuple):
            return tuple(RULES[name] for name in axis)
        return None if axis is None else RULES[axis]

    return PartitionSpec(*map(place, axes))


def parts() -> int:
    """Devices that a layer is divided among where this is traced; 1 without a mesh."""
    mesh = jax.sharding.get_abstract_mesh()
    return mesh.shape[MODEL] if MODEL in mesh.manual_axes else 1


def summed(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """The sum of the devices' parts."""
    return x if parts() == 1 else jax.lax.psum(x, MODEL)


def looked_up(table: Float[Array, "V D"], ids: Int[Array, "B T"]) -> Float[Array, "B T D"]:
    """Rows of a table that may be divided among devices."""
    if parts() == 1:
        return table[ids]
    row = ids - jax.lax.axis_index(MODEL) * table.shape[0]
    here = (row >= 0) & (row < table.shape[0])
    own = table[jnp.where(here, row, 0)]
    return summed(jnp.where(here[..., None], own, jnp.zeros((), table.dtype)))


@dataclasses.dataclass(frozen=True)
class Split:
    """How one model is divided among the devices of a mesh."""

    mesh: Mesh
    config: ModelConfig
    """The whole model."""
    part: ModelConfig
    """What one device computes: so many of the heads, of the hidden features and of the ids."""

    @classmethod
    def of(cls, config: ModelConfig, mesh: Any) -> Split | None:
        """For sizes such as `{"data": 2, "model": 4}`; None for one device.

        Raises InvalidRequest for sizes that the model or the devices do not allow.
        """
        data, model = _sizes(mesh)
        if data * model == 1:
            return None
        _check(config, data, model)
        shape, devices = (data, model), jax.devices()[: data * model]
        made = jax.make_mesh(shape, (DATA, MODEL), (AxisType.Auto,) * 2, devices=devices)
        return cls(mesh=made, config=config, part=part_of(config, model))

    @property
    def data(self) -> int:
        """Devices, or groups of them, that the rows are divided among."""
        return self.mesh.shape[DATA]

    @property
    def model(self) -> int:
        """Devices that each layer is divided among."""
        return self.mesh.shape[MODEL]

    def sharding(self, *axes: str | tuple[str, ...] | None) -> NamedSharding:
        """Where an array with these axes lies."""
        return NamedSharding(self.mesh, spec(*axes))

    def put(self, array: np.ndarray, axes: Sequence[str] = ()) -> jax.Array:
        """An array of the host where its first axes say, in memory of its own, so that it may be
        donated. Every process gives the same one and sends what its own devices hold."""
        place = self.sharding(*axes)
        parts = place.addressable_devices_indices_map(array.shape)
        pieces = [
            jax.device_put(np.asarray(array[index]), device, may_alias=False)
            for device, index in parts.items()
        ]
        return jax.make_array_from_single_device_arrays(array.shape, place, pieces)

    def axes(self, leaf: str) -> tuple[str, ...]:
        """The axes of a leaf of the decoder; none for one that is whole on each device."""
        name = leaf.split(".", 2)[2] if leaf.startswith("blocks.") else leaf
        if name in _WHOLE_NORMS and self.config.query_key_norm == "whole":
            return ("heads",)
        return AXES.get(name, ())

    def shares(
        self, leaf: str, rows: Sequence[np.ndarray]
    ) -> Iterator[tuple[list[np.ndarray], list[Any]]]:
        """What each device of this process holds of a leaf, as views, and which devices hold it.

        `rows` are arrays that make the leaf one below the other, as a checkpoint has them.
        """
        for shard in range(self.model):
            devices = [d for d in self.mesh.devices[:, shard] if d.process_index == _process()]
            if devices:
                yield self.share(leaf, rows, shard), devices

    def whole(self, leaf: str, shape: tuple[int, ...], pieces: list[jax.Array]) -> jax.Array:
        """The array of a leaf whose pieces of this shape lie on the devices of this process."""
        place = self.sharding(*self.axes(leaf))
        pairs = itertools.zip_longest(shape, place.spec)
        sizes = [size * (1 if axis is None else self.mesh.shape[axis]) for size, axis in pairs]
        return jax.make_array_from_single_device_arrays(tuple(sizes), place, pieces)

    def share(self, leaf: str, rows: Sequence[np.ndarray], shard: int) -> list[np.ndarray]:
        """What device number `shard` of those that divide a layer holds of a leaf, as views."""
        axes = self.axes(leaf)
        if not axes:
            return list(rows)
        if RULES[axes[0]] is None:  # the features that come in are divided, not the rows
            width = rows[0].shape[1] // self.model
            return [array[:, shard * width : (shard + 1) * width] for array in rows]
        total = sum(map(len, rows))
        held = [
            piece
            for start, end in self._ranges(leaf, total, shard)
            for piece in cut(rows, start, end)
        ]
        short = self.part.vocab_size - sum(map(len, held)) if axes[0] == "vocab" else 0
        if short:
            shape = (short, *rows[0].shape[1:])
            held.append(np.broadcast_to(np.zeros((), rows[0].dtype), shape))
        return held

    def _ranges(self, leaf: str, total: int, shard: int) -> list[tuple[int, int]]:
        """The rows of a leaf that a device holds, first and last + 1 of each run."""
        c, count = self.config, self.model
        kind = self.axes(leaf)[0]
        if kind == "vocab":
            size = self.part.vocab_size
            return [(min(shard * size, total), min((shard + 1) * size, total))]
        if kind == "hidden":  # one below the other: gate and up, of each expert
            whole = c.expert_width if "mixture" in leaf else c.mlp_width
            size = whole // count
            starts = range(shard * size, total, whole)
            return [(start, start + size) for start in starts]
        queries, keys = self._head_rows(shard)
        if leaf.endswith("query_norm.scale"):
            return [queries]
        if leaf.endswith("key_norm.scale"):
            return keys
        first, width = c.heads * c.head_width, c.kv_heads * c.head_width
        return [queries, *((a + at, b + at) for at in (first, first + width) for a, b in keys)]

    def _head_rows(self, shard: int) -> tuple[tuple[int, int], list[tuple[int, int]]]:
        """The rows of a device's queries among all queries, and of its keys among all keys."""
        c, own = self.config, self.part
        first = shard * own.heads
        queries = first * c.head_width, (first + own.heads) * c.head_width
        heads = [(first + head * own.group) // c.group for head in range(own.kv_heads)]
        return queries, [(head * c.head_width, (head + 1) * c.head_width) for head in heads]


def part_of(config: ModelConfig, count: int) -> ModelConfig:
    """The configuration of what one of `count` devices computes.

    Query heads are divided evenly. Key/value heads follow them: a device holds those that its
    queries read, one that serves queries of several devices is on each of them. 12 query heads that
    share 3 in fours, on 2 devices: the first holds key/value heads 0, 0 and 1, each for 2 queries.
    """
    heads = config.heads // count
    blocks = -(-config.vocab_size // VOCAB_BLOCK)
    return dataclasses.replace(
        config,
        heads=heads,
        kv_heads=heads // math.gcd(config.group, heads),
        mlp_width=config.mlp_width // count,
        expert_width=config.expert_width // count,
        vocab_size=-(-blocks // count) * VOCAB_BLOCK if count > 1 else config.vocab_size,
    )


def cut(rows: Sequence[np.ndarray], start: int, end: int) -> list[np.ndarray]:
    """Rows `start` to `end` of arrays that lie one below the other, as views."""
    ends = list(itertools.accumulate(map(len, rows)))
    pieces = [
        array[max(start - last + len(array), 0) : max(end - last + len(array), 0)]
        for array, last in zip(rows, ends, strict=True)
    ]
    return [piece for piece in pieces if len(piece)]


def _process() -> int:
    return jax.process_index()


def _sizes(mesh: Any) -> tuple[int, int]:
    """The sizes of "data" and "model"; what is left out is 1."""
    if mesh is None:
        return 1, 1
    if not isinstance(mesh, Mapping) or not mesh.keys() <= {DATA, MODEL}:
        raise _refusal(f"must have the axes {DATA!r} and {MODEL!r} and no others, got {mesh!r:.80}")
    for axis, size in mesh.items():
        if not isinstance(size, int) or isinstance(size, bool) or size < 1:
            raise _refusal(f"must have whole numbers, 1 or more, got {axis}={size!r:.40}")
    return mesh.get(DATA, 1), mesh.get(MODEL, 1)


def _check(config: ModelConfig, data: int, model: int) -> None:
    """Raise InvalidRequest for sizes that cannot work."""
    if config.quant:
        raise _refusal(
            f"{DATA}={data}, {MODEL}={model} is not handled for `quant` {config.quant!r}, whose "
            "rows are rounded as a whole",
            "Leave one of the two out.",
        )
    if data & (data - 1) or data > MOST_DATA:
        raise _refusal(f"{DATA}={data} must be a power of two, at most {MOST_DATA}")
    _check_divides(config, model)
    there, asked = jax.device_count(), data * model
    if asked > there or (asked < there and jax.process_count() > 1):
        also = "" if asked > there else "; several processes must use all of them"
        raise _refusal(
            f"{DATA}={data}, {MODEL}={model} asks for {asked} devices, and there are {there}{also}",
            "On a CPU, XLA_FLAGS=--xla_force_host_platform_device_count=8 makes eight of one.",
        )


def _check_divides(config: ModelConfig, model: int) -> None:
    divided = {
        "query heads": config.heads,
        "hidden features": config.mlp_width,
        "hidden features of an expert": config.expert_width,
    }
    works = [n for n in range(1, model) if not any(size % n for size in divided.values())]
    for what, size in divided.items():
        if size % model:
            raise _refusal(
                f"{MODEL}={model} must divide the {size} {what} of this model", _or(works)
            )
    kv = config.kv_heads
    if config.query_key_norm == "whole" and kv % model and model % kv:
        raise _refusal(
            f"{MODEL}={model} must divide the {kv} key/value heads of this model, or be a multiple "
            "of their number, because all of them are normed together",
            _or([n for n in works if kv % n == 0 or n % kv == 0]),
        )


def _or(sizes: Sequence[int]) -> str:
    return f"Use {MODEL}={' or '.join(map(str, sizes))}, and {DATA!r} for other devices."


def _refusal(rule: str, way: str = "Give sizes such as {'data': 2, 'model': 4}.") -> InvalidRequest:
    return InvalidRequest(f"`mesh` {rule}. {way}", param="mesh")
