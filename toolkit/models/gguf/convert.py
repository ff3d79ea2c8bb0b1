"""A GGUF file -> a folder that this package and Hugging Face both read.

The numbers are the file's own, turned into float32: nothing is rounded again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from toolkit.models.checkpoint import WEIGHTS, check_tensors
from toolkit.models.families import FAMILIES, family, read_config, weight_parts
from toolkit.models.gguf.architectures import ARCHITECTURES, read_metadata
from toolkit.models.gguf.fields import refuse_other_kinds
from toolkit.models.gguf.names import sources
from toolkit.models.gguf.reader import GGUFFile, read_gguf
from toolkit.models.gguf.tokenizer import special_ids, tokenizer_files
from toolkit.models.jsonfile import write_json
from toolkit.models.prepared import sha256, write_manifest
from toolkit.models.safetensors import write_safetensors


def prepare(
    source: Path,
    folder: Path,
    *,
    digest: str | None = None,
    tick: Callable[[int, int], None] = lambda done, total: None,
) -> None:
    """Write the prepared folder of a GGUF file into an empty `folder`, one tensor at a time.

    `digest` is the file's sha256 if it is known; `tick(done, total)` is told about each tensor.
    Raises UnsupportedModel for another architecture, field, tokenizer or block type,
    CheckpointError for a damaged file or tensors that do not fit its metadata.
    """
    file = read_gguf(source)
    raw = config_json(file)
    config = read_config(raw)
    shapes = {p.name: p.shape for parts in weight_parts(config).values() for p in parts}
    read = ARCHITECTURES[file.fields["general.architecture"]].rope
    tensors = {name: tensor for name, tensor in file.tensors.items() if name not in read}
    found = sources(raw["model_type"], tensors, heads=config.heads, kv_heads=config.kv_heads)
    check_tensors(shapes, {name: one.shape for name, one in found.items()}, source)

    def values() -> Iterator[np.ndarray]:
        for done, name in enumerate(shapes):
            tick(done, len(shapes))
            yield found[name].values()
        tick(len(shapes), len(shapes))

    for name, contents in tokenizer_files(file.fields, context=config.context).items():
        write_json(folder / name, contents)
    write_json(folder / "config.json", raw)
    write_json(folder / "generation_config.json", special_ids(file.fields))
    weights = write_safetensors(folder / WEIGHTS, shapes, values())
    write_manifest(
        folder,
        source={
            "file": source.name,
            "bytes": source.stat().st_size,
            "sha256": digest or sha256(source),
        },
        writers={name: version(name) for name in ("gguf", "numpy")},
        sums={WEIGHTS: weights},
    )


def config_json(file: GGUFFile) -> dict[str, Any]:
    """The metadata as Hugging Face's config.json. Raises UnsupportedModel, CheckpointError."""
    refuse_other_kinds(file.fields, file.path)
    made = read_metadata(file)
    return {
        "architectures": [family(FAMILIES[made["model_type"]]).ARCHITECTURE],
        **made,
        "torch_dtype": "float32",
        **special_ids(file.fields),
    }
