"""A checkpoint folder in Hugging Face's form -> a decoder with its weights.

The folder holds config.json and model.safetensors, or its shards and model.safetensors.index.json.
Each leaf of the decoder, on a mesh each device's part of it, is filled from the mapped file
straight into memory of its own: nothing refers to the file afterwards, so it may be overwritten or
deleted while the model runs. The memory begins at a multiple of 64 bytes, which lets JAX adopt it
on CPU without a second copy.
"""

from __future__ import annotations

import concurrent.futures
import dataclasses
import mmap
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from toolkit.errors import CheckpointError, UnsupportedModel
from toolkit.kernels.processor import cores
from toolkit.models.adapter import Adapter
from toolkit.models.arena import Arena
from toolkit.models.config import ModelConfig
from toolkit.models.decoder import Decoder
from toolkit.models.families import Part, canonical_name, read_config, weight_parts
from toolkit.models.int8 import rounded_on_host
from toolkit.models.jsonfile import read_json
from toolkit.models.safetensors import read_safetensors
from toolkit.models.sharding import Split

WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"

HEADS = frozenset({"lm_head.weight", "embed_out.weight"})
"""Names of an output head."""

_ROWS = 1024
"""Rows that are rounded to whole numbers at one time."""

_READERS = 4
"""Most leaves that are filled at one time: to touch new memory takes longer than to copy, and each
core can do it."""

_SHOWN = 5


def load(
    folder: Path | str,
    *,
    dtype: Any = jnp.float32,
    quant: str | None = None,
    adapter: Path | str | None = None,
    split: Split | None = None,
    kernels: Literal["decoding", "short"] | None = None,
    strict: bool = False,
) -> Decoder:
    """The decoder of a folder, with its weights as `dtype`, or those of projections as `quant`, and
    with a LoRA adapter merged. With a `split`, one device's decoder, whose arrays lie on all.
    `kernels`: what it computes with `toolkit.kernels`, which are prepared; `strict` as in
    `ModelConfig`.

    Raises CheckpointError for files that are missing, damaged or do not fit the configuration,
    UnsupportedModel for what is not handled.
    """
    folder = Path(folder)
    config = quantised(load_config(folder), quant)
    merge = None if adapter is None else Adapter.read(adapter, config)
    part = config if split is None else split.part
    part = dataclasses.replace(part, kernels=kernels, strict=strict)
    with concurrent.futures.ThreadPoolExecutor(1) as beside:  # copying leaves Python its time
        blank = beside.submit(_blank, part, dtype)
        leaves = read_weights(folder, config, dtype, adapter=merge, split=split)
        return _filled(blank.result(), leaves)


def load_config(folder: Path | str) -> ModelConfig:
    """The configuration of a folder. Raises CheckpointError, UnsupportedModel."""
    return read_config(read_json(Path(folder) / "config.json"))


def quantised(config: ModelConfig, quant: str | None) -> ModelConfig:
    """The configuration with its projections as `quant`. Raises UnsupportedModel."""
    if quant is None:
        return config
    if quant != "int8":
        raise UnsupportedModel(
            f"`quant` {quant!r} is not handled. Use 'int8', or leave it out for whole weights."
        )
    if config.experts:
        raise UnsupportedModel(
            f"`quant` {quant!r} is not handled for mixtures of experts ({config.family}). Leave it "
            "out, or choose a model without experts."
        )
    return dataclasses.replace(config, quant="int8")


def _blank(config: ModelConfig, dtype: Any) -> Decoder:
    """A decoder that has no weights, only their shapes: none are made first to be replaced."""
    return nnx.eval_shape(lambda: Decoder(config, rngs=_SameKey(), dtype=jnp.dtype(dtype)))


def _filled(blank: Decoder, leaves: Mapping[str, jax.Array]) -> Decoder:
    """The decoder whose leaf at each path is the array given."""
    graph, state = nnx.split(blank)
    flat = [
        (path, variable.replace(leaves[".".join(map(str, path))]))
        for path, variable in nnx.to_flat_state(state)
    ]
    return nnx.merge(graph, nnx.from_flat_state(flat))


class _SameKey(nnx.Rngs):
    """One key for every draw: nothing is drawn, and the counter of nnx.Rngs would cost 0.2 s."""

    def __init__(self) -> None: ...

    def params(self) -> jax.Array:
        return jax.random.key(0)


def read_weights(
    folder: Path | str,
    config: ModelConfig,
    dtype: Any,
    *,
    adapter: Adapter | None = None,
    split: Split | None = None,
) -> dict[str, jax.Array]:
    """Leaf path, such as `blocks.0.qkv.kernel`, -> array of `dtype`, every tensor accounted for.

    Raises CheckpointError listing all tensors that are missing, surplus or of another shape.
    """
    parts = weight_parts(config)
    tensors = {
        name: tensor
        for theirs, tensor in read_tensors(Path(folder)).items()
        if (name := canonical_name(config, theirs)) is not None
    }
    if config.tied_head:
        _drop_tied_copy(tensors, parts["embedding"][0].name, folder)
    check_tensors(
        {part.name: part.shape for group in parts.values() for part in group},
        {name: t.shape for name, t in tensors.items()},
        folder,
    )
    if adapter is not None:
        adapter.check_all_used(parts)
    if config.quant is not None and config.tied_head:
        parts["head.kernel"] = parts["embedding"]
    arena = Arena()

    def fill(leaf: str) -> dict[str, jax.Array]:
        rows = [_rows(part, tensors, adapter) for part in parts[leaf]]
        if config.quant is not None and leaf.endswith(".kernel"):
            whole, scale = map(jax.device_put, _whole_numbers(rows, arena))
            made = {leaf: whole, leaf.removesuffix("kernel") + "scale": scale}
        else:
            made = {leaf: _placed(leaf, rows, jnp.dtype(dtype), arena, split)}
        for part in parts[leaf]:
            _let_go(tensors[part.name])
        return made

    with concurrent.futures.ThreadPoolExecutor(min(cores(), _READERS)) as readers:
        return {path: array for made in readers.map(fill, parts) for path, array in made.items()}


def _let_go(tensor: np.ndarray) -> None:
    """Give back the pages of the mapped file that were read, where the system can."""
    owner: Any = tensor
    while isinstance(owner, np.ndarray | memoryview):
        owner = owner.base if isinstance(owner, np.ndarray) else owner.obj
    if isinstance(owner, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):
        owner.madvise(mmap.MADV_DONTNEED)


def _rows(part: Part, tensors: Mapping[str, np.ndarray], adapter: Adapter | None) -> np.ndarray:
    """The rows that a tensor gives to its leaf, as a view of the mapped file if it can be one."""
    tensor = tensors[part.name]
    tensor = tensor if adapter is None else adapter.merged(part, tensor)
    return tensor if part.rows is None else part.rows(tensor)


def _placed(
    leaf: str, rows: list[np.ndarray], dtype: np.dtype, arena: Arena, split: Split | None
) -> jax.Array:
    """A leaf on the device; on a mesh, of each device's part no more than one copy on the host."""
    if split is None:
        return jax.device_put(_join(rows, dtype, arena))
    pieces, shape = [], ()
    for share, devices in split.shares(leaf, rows):
        own = _join(share, dtype, arena)
        pieces += [jax.device_put(own, device) for device in devices]
        shape = own.shape
    return split.whole(leaf, shape, pieces)


def _join(parts: list[np.ndarray], dtype: np.dtype, arena: Arena) -> np.ndarray:
    """Stack along the first axis, as `dtype`, in aligned memory that nobody else can write."""
    joined = arena.empty((sum(len(part) for part in parts), *parts[0].shape[1:]), dtype)
    at = 0
    for part in parts:
        joined[at : at + len(part)] = part
        at += len(part)
    joined.flags.writeable = False
    return joined


def _whole_numbers(parts: list[np.ndarray], arena: Arena) -> tuple[np.ndarray, np.ndarray]:
    """The same as 8-bit whole numbers with a scale a row; a few rows at a time are floats."""
    rows = sum(len(part) for part in parts)
    whole = arena.empty((rows, parts[0].shape[1]), np.dtype(np.int8))
    scale = np.empty(rows, np.float32)
    at = 0
    for part in parts:
        for start in range(0, len(part), _ROWS):
            piece = part[start : start + _ROWS].astype(np.float32)
            end = at + len(piece)
            whole[at:end], scale[at:end] = rounded_on_host(piece)
            at = end
    whole.flags.writeable = False
    return whole, scale


def read_tensors(folder: Path) -> dict[str, np.ndarray]:
    """Every tensor of a folder by its Hugging Face name, as views of the mapped files."""
    if (folder / WEIGHTS).is_file():
        return read_safetensors(folder / WEIGHTS)
    if (folder / INDEX).is_file():
        return _read_shards(folder)
    if old := sorted(path.name for path in folder.glob("*.bin")):
        raise UnsupportedModel(
            f"{folder} holds {_some(old)} and no {WEIGHTS}. `.bin` files are pickles, which can "
            "run any code, and are not read. Convert them where PyTorch is installed: transformers."
            f"AutoModelForCausalLM.from_pretrained({str(folder)!r}).save_pretrained({str(folder)!r})."
        )
    raise CheckpointError(
        f"{folder} has neither {WEIGHTS} nor {INDEX}. Give the folder of a complete checkpoint."
    )


def _read_shards(folder: Path) -> dict[str, np.ndarray]:
    places = read_json(folder / INDEX).get("weight_map")
    if not isinstance(places, dict) or not all(isinstance(p, str) for p in places.values()):
        raise CheckpointError(f"{folder / INDEX} has no usable `weight_map`. Fetch it again.")
    shards = sorted(set(places.values()))
    if outside := [shard for shard in shards if Path(shard).name != shard]:
        raise CheckpointError(f"{folder / INDEX} points out of its folder: {_some(outside)}.")
    if absent := [shard for shard in shards if not (folder / shard).is_file()]:
        raise CheckpointError(
            f"{folder} lacks {len(absent)} of {len(shards)} shards: {_some(absent)}. "
            "Fetch them again."
        )
    found = {shard: read_safetensors(folder / shard) for shard in shards}
    if wrong := [name for name, shard in places.items() if name not in found[shard]]:
        raise CheckpointError(
            f"The shards in {folder} lack tensors that {INDEX} promises: {_some(wrong)}. "
            "Fetch them again."
        )
    return {name: t for tensors in found.values() for name, t in tensors.items()}


def _drop_tied_copy(tensors: dict[str, np.ndarray], embedding: str, folder: Path | str) -> None:
    """Some checkpoints store a tied head too: leave it out if it is the embedding, else refuse."""
    for name in HEADS & tensors.keys():
        head = tensors.pop(name)
        if embedding in tensors and not np.array_equal(head, tensors[embedding]):
            raise CheckpointError(
                f"config.json in {folder} ties the head to the embedding, and `{name}` differs "
                f"from `{embedding}`. Set `tie_word_embeddings` to false if the separate head is "
                "meant."
            )


def check_tensors(
    wanted: Mapping[str, tuple[int, ...]], found: Mapping[str, tuple[int, ...]], source: Path | str
) -> None:
    """Raise CheckpointError if anything in `found` is missing, surplus or misshaped, listing it."""
    both = wanted.keys() & found.keys()
    misshaped = [
        f"{name} is {list(found[name])}, not {list(wanted[name])}"
        for name in sorted(both)
        if tuple(found[name]) != tuple(wanted[name])
    ]
    problems = {
        "missing": sorted(wanted.keys() - both),
        "surplus": sorted(found.keys() - both),
        "misshaped": misshaped,
    }
    lines = [f"{len(names)} {what}: {_some(names)}" for what, names in problems.items() if names]
    if lines:
        raise CheckpointError(
            f"The tensors in {source} do not fit its configuration. {'; '.join(lines)}. "
            "Take configuration and weights from the same model."
        )


def _some(names: Iterable[str]) -> str:
    names = list(names)
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more
