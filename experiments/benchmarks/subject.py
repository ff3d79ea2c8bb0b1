"""What is measured: one model's weights in two files, and one prompt."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from experiments.benchmarks.gguf_file import write_gguf
from experiments.benchmarks.settings import Settings
from toolkit.models import catalog
from toolkit.models.safetensors import read_safetensors

TEXT = (
    "The history of measurement begins with the human body. A foot was the length of a foot, an "
    "inch the width of a thumb, and a mile a thousand paces of a marching soldier. "
)
HEAD, EMBEDDING = "lm_head.weight", "model.embed_tokens.weight"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Subject:
    """A model and a prompt, in the forms that the engines take."""

    folder: Path
    """In Hugging Face's form, for transformers and for the toolkit."""
    gguf: Path
    """The same float32 numbers for llama.cpp."""
    weight_bytes: int
    """Read for one token in float32: all weights once, but of a separate embedding one row."""
    prompt: tuple[int, ...]

    @classmethod
    def of(cls, settings: Settings) -> Subject:
        """Fetch and convert what is not there yet."""
        folder = catalog.resolve(settings.model)
        cache = catalog.models_directory().parent / "benchmarks"
        return cls(
            folder=folder,
            gguf=write_gguf(folder, cache / f"{folder.name}-f32.gguf"),
            weight_bytes=weight_bytes(folder),
            prompt=prompt(folder, settings.prompt_tokens),
        )

    def facts(self) -> dict[str, Any]:
        """What belongs into a report: no paths of the machine."""
        return {"model": self.folder.name, "weight_bytes": self.weight_bytes}


def weight_bytes(folder: Path) -> int:
    """Bytes of float32 weights that the network reads for one token, cache not counted."""
    sizes: dict[str, int] = {}
    for path in folder.glob("*.safetensors"):
        sizes |= {name: 4 * tensor.size for name, tensor in read_safetensors(path).items()}
    if HEAD in sizes:
        del sizes[EMBEDDING]
    return sum(sizes.values())


def prompt(folder: Path, length: int) -> tuple[int, ...]:
    """The first `length` ids of a plain text, repeated if need be."""
    from tokenizers import Tokenizer

    encode = Tokenizer.from_file(str(folder / "tokenizer.json")).encode
    repeats = 1 + length // len(encode(TEXT).ids)
    return tuple(encode(TEXT * repeats).ids[:length])
