"""The safetensors file: tensors read as views of the mapped file, and written one by one.

Layout: 8 bytes, the length N of the header, little-endian; N bytes of JSON, name -> dtype, shape
and offsets; then the data. Read here and not through the `safetensors` package because that copies
each tensor into an object of its own first: 0.4 s for 540 MB, where filling the leaves from views
takes 0.1 s. Source: the format as the package's documentation gives it.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from toolkit.errors import CheckpointError, UnsupportedModel

DTYPES: Mapping[str, Any] = {
    "F64": np.float64,
    "F32": np.float32,
    "F16": np.float16,
    "BF16": ml_dtypes.bfloat16,
}
"""Element types that hold weights as they are; narrower ones need a scale that is not here."""

_DATA_ALIGNMENT = 64


def read_safetensors(path: Path) -> dict[str, np.ndarray]:
    """Name -> read-only view of the mapped file, in the file's own element type.

    The views are good as long as nobody shortens or rewrites the file: copy what is to stay.
    Raises CheckpointError for a file that is cut short or malformed, UnsupportedModel for an
    element type that is not in DTYPES.
    """
    size = path.stat().st_size
    raw = np.memmap(path, np.uint8, mode="r") if size else np.zeros(0, np.uint8)
    length = int.from_bytes(raw[:8].tobytes(), "little")
    if size < 8 or length > size - 8:
        raise _damaged(path, f"its header needs {length + 8} bytes and the file has {size}")
    try:
        header = json.loads(raw[8 : 8 + length].tobytes())
        entries = {name: e for name, e in header.items() if name != "__metadata__"}
        return {name: _view(path, raw[8 + length :], name, e) for name, e in entries.items()}
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise _damaged(path, f"its header is not what the format asks for ({error})") from error


def _view(path: Path, data: np.ndarray, name: str, entry: Mapping[str, Any]) -> np.ndarray:
    if entry["dtype"] not in DTYPES:
        raise UnsupportedModel(
            f"Tensor `{name}` in {path} has element type {entry['dtype']}; supported are "
            f"{', '.join(DTYPES)}. Choose a checkpoint that is not quantised."
        )
    dtype, shape = np.dtype(DTYPES[entry["dtype"]]), tuple(entry["shape"])
    begin, end = entry["data_offsets"]
    if end > len(data):
        raise _damaged(path, f"`{name}` ends at byte {end} of the data, which has {len(data)}")
    if begin < 0 or end - begin != math.prod(shape) * dtype.itemsize:
        raise _damaged(path, f"`{name}` spans {end - begin} bytes, which is not {dtype} {shape}")
    return np.asarray(data[begin:end]).view(dtype).reshape(shape)


def _damaged(path: Path, reason: str) -> CheckpointError:
    return CheckpointError(f"{path} is damaged: {reason}. Fetch or copy it again.")


def write_safetensors(
    path: Path, shapes: Mapping[str, tuple[int, ...]], tensors: Iterable[np.ndarray]
) -> str:
    """Write float32 tensors, in the order of `shapes`, and give the file's sha256.

    `tensors` may make them one by one: only one is held at a time. The data begins at a multiple
    of 64 bytes.
    """
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, shape in shapes.items():
        begin, end = end, end + 4 * math.prod(shape)
        header[name] = {"dtype": "F32", "shape": list(shape), "data_offsets": [begin, end]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-(8 + len(text)) % _DATA_ALIGNMENT)
    digest = hashlib.sha256()
    with path.open("wb") as file:
        for chunk in (len(text).to_bytes(8, "little"), text):
            file.write(chunk)
            digest.update(chunk)
        for shape, tensor in zip(shapes.values(), tensors, strict=True):
            if tensor.shape != shape or tensor.dtype != np.float32:
                raise ValueError(f"expected float32 {shape}, got {tensor.dtype} {tensor.shape}")
            tensor = np.ascontiguousarray(tensor)
            file.write(tensor.data)
            digest.update(tensor.data)
    return digest.hexdigest()
