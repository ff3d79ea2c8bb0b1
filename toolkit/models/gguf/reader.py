"""The GGUF file: metadata and tensors, read once.

The `gguf` package names the value types and the block types and turns blocks into numbers. Its own
reader makes several arrays for each of the vocabulary's strings, 2.5 s for this size of model;
here a file's metadata takes 0.1 s and its tensors are views of the mapped file. Source: the GGUF
specification, versions 2 and 3, little-endian.
"""

from __future__ import annotations

import dataclasses
import math
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from toolkit.errors import CheckpointError, UnsupportedModel

_SCALARS = dict(zip((*range(8), 10, 11, 12), "BbHhIif?Qqd", strict=True))
"""gguf.GGUFValueType -> the letter with which `struct` reads it."""
_STRING, _ARRAY = 8, 9
_AT_ONCE = 1 << 22
"""Numbers that are made of blocks at one time."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class GGUFTensor:
    """One tensor: blocks of some type, as rows of bytes."""

    name: str
    kind: str
    """Name of the block type, such as `Q4_1`."""
    shape: tuple[int, ...]
    """In elements, slowest axis first."""
    blocks: np.ndarray
    """uint8, `shape` with the last axis in bytes."""

    def values(self, index: int | None = None) -> np.ndarray:
        """The numbers, float32; with `index` those at that place of the slowest axis.

        A few rows at a time: turning blocks into numbers takes several copies of them. Raises
        UnsupportedModel if `gguf` cannot read the block type.
        """
        from gguf import GGMLQuantizationType, quants

        kind = GGMLQuantizationType[self.kind]
        blocks = self.blocks if index is None else self.blocks[index]
        shape = self.shape if index is None else self.shape[1:]
        rows, values = blocks.reshape(-1, blocks.shape[-1]), np.empty(shape, np.float32)
        filled = values.reshape(-1, shape[-1])
        step = max(_AT_ONCE // shape[-1], 1)
        try:
            for start in range(0, len(rows), step):
                filled[start : start + step] = quants.dequantize(rows[start : start + step], kind)
        except NotImplementedError as error:
            raise UnsupportedModel(
                f"Tensor `{self.name}` has block type {self.kind}, which the `gguf` package cannot "
                "turn into numbers. Choose a file of another type, such as Q8_0 or F16."
            ) from error
        return values


@dataclasses.dataclass(frozen=True, kw_only=True)
class GGUFFile:
    """Metadata and tensors by name."""

    path: Path
    fields: Mapping[str, Any]
    tensors: Mapping[str, GGUFTensor]


def read_gguf(path: Path) -> GGUFFile:
    """Read a GGUF file. Tensors stay views of the mapped file.

    Raises CheckpointError for a file that is cut short or no GGUF file, UnsupportedModel for a
    version, byte order or block type that is not handled.
    """
    raw = np.memmap(path, np.uint8, mode="r") if path.stat().st_size else np.zeros(0, np.uint8)
    cursor = _Cursor(raw.data)
    try:
        _check_start(path, cursor)
        tensor_count, field_count = cursor.scalar("<Q"), cursor.scalar("<Q")
        fields = {}
        for _ in range(field_count):
            name = cursor.string()
            fields[name] = cursor.value(cursor.scalar("<I"))
        infos = [cursor.tensor_info() for _ in range(tensor_count)]
    except (struct.error, UnicodeDecodeError, ValueError, KeyError) as error:
        raise _damaged(path, f"its metadata cannot be read ({error})") from error
    alignment = fields.get("general.alignment", 32)
    data = np.asarray(raw)[cursor.at + -cursor.at % alignment :]
    tensors = {info.name: _tensor(path, data, info) for info in infos}
    return GGUFFile(path=path, fields=fields, tensors=tensors)


def _check_start(path: Path, cursor: _Cursor) -> None:
    if bytes(cursor.data[:4]) != b"GGUF":
        raise CheckpointError(f"{path} is no GGUF file: it does not begin with the letters GGUF.")
    cursor.at = 4
    version = cursor.scalar("<I")
    if version not in (2, 3):
        raise UnsupportedModel(
            f"{path} is GGUF of version {version} or of the other byte order; handled are versions "
            "2 and 3, little-endian. Convert the model again with a current converter."
        )


def _tensor(path: Path, data: np.ndarray, info: _TensorInfo) -> GGUFTensor:
    from gguf import GGML_QUANT_SIZES, GGMLQuantizationType

    name, shape, kind, offset = info
    try:
        known = GGMLQuantizationType(kind)
    except ValueError:
        raise UnsupportedModel(
            f"Tensor `{name}` in {path} has block type {kind}, which the `gguf` package does not "
            "know. Install a newer `gguf`, or choose a file of another type."
        ) from None
    elements, size = GGML_QUANT_SIZES[known]
    row = shape[-1] // elements * size
    length = math.prod(shape[:-1]) * row
    if shape[-1] % elements or offset + length > len(data):
        place = f"{length} bytes at {offset} of {len(data)}"
        raise _damaged(path, f"`{name}` {list(shape)} needs {place}")
    blocks = data[offset : offset + length].reshape(*shape[:-1], row)
    return GGUFTensor(name=name, kind=known.name, shape=shape, blocks=blocks)


def _damaged(path: Path, reason: str) -> CheckpointError:
    return CheckpointError(f"{path} is damaged or cut short: {reason}. Fetch or copy it again.")


class _TensorInfo(NamedTuple):
    name: str
    shape: tuple[int, ...]
    """Slowest axis first."""
    kind: int
    """Number of the block type."""
    offset: int
    """In the data, in bytes."""


class _Cursor:
    """Reads one value after the other."""

    def __init__(self, data: memoryview):
        self.data = data
        self.at = 0

    def scalar(self, form: str) -> Any:
        (value,) = struct.unpack_from(form, self.data, self.at)
        self.at += struct.calcsize(form)
        return value

    def string(self) -> str:
        length = self.scalar("<Q")
        text = bytes(self.data[self.at : self.at + length])
        if len(text) != length:
            raise ValueError(f"a string of {length} bytes runs over the end")
        self.at += length
        return text.decode()

    def value(self, kind: int) -> Any:
        if kind == _STRING:
            return self.string()
        if kind != _ARRAY:
            return self.scalar("<" + _SCALARS[kind])
        kind, count = self.scalar("<I"), self.scalar("<Q")
        if kind in (_STRING, _ARRAY):
            return [self.value(kind) for _ in range(count)]
        numbers = np.frombuffer(self.data, np.dtype("<" + _SCALARS[kind]), count, self.at)
        self.at += numbers.nbytes
        return numbers.tolist()

    def tensor_info(self) -> _TensorInfo:
        name, rank = self.string(), self.scalar("<I")
        shape = tuple(self.scalar("<Q") for _ in range(rank))[::-1]
        return _TensorInfo(name, shape, kind=self.scalar("<I"), offset=self.scalar("<Q"))
