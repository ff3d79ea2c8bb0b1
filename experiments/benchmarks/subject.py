"""What is measured: one model's weights in several files, and prompts."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from experiments.benchmarks.gguf_file import FORMATS, write_gguf
from experiments.benchmarks.settings import ROOT, Settings
from toolkit.models import catalog
from toolkit.models.safetensors import read_safetensors

TEXT = (
    "The history of measurement begins with the human body. A foot was the length of a foot, an "
    "inch the width of a thumb, and a mile a thousand paces of a marching soldier. "
)
CORPUS = ROOT / "docs/contract.md"
"""Plain technical English, for prompts that differ and for perplexity."""
HEAD, EMBEDDING = "lm_head.weight", "model.embed_tokens.weight"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Subject:
    """A model and prompts, in the forms that the engines take."""

    folder: Path
    """In Hugging Face's form, for transformers, for the toolkit and for the naive loop."""
    gguf: Mapping[str, Path]
    """The same weights for llama.cpp, by format."""
    weight_bytes: int
    """Read for one token in float32: all weights once, but of a separate embedding one row."""
    text: tuple[int, ...]
    """Ids of TEXT."""
    corpus: tuple[int, ...]
    """Ids of CORPUS."""

    @classmethod
    def of(cls, settings: Settings) -> Subject:
        """Fetch and convert what is not there yet."""
        folder = catalog.resolve(settings.model)
        cache = catalog.models_directory().parent / "benchmarks"
        return cls(
            folder=folder,
            gguf={
                form: write_gguf(folder, cache / f"{folder.name}-{form.lower()}.gguf", form)
                for form in FORMATS
            },
            weight_bytes=weight_bytes(folder),
            text=encode(folder, TEXT),
            corpus=encode(folder, CORPUS.read_text(encoding="utf-8")),
        )

    def prompt(self, length: int) -> list[int]:
        """The first `length` ids of a plain text, repeated if need be."""
        return list(itertools.islice(itertools.cycle(self.text), length))

    def prompts(self, lengths: Sequence[int]) -> list[list[int]]:
        """Prompts that share no beginning: stretches of the corpus, one after another."""
        ids = itertools.cycle(self.corpus)
        return [list(itertools.islice(ids, length)) for length in lengths]

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


def encode(folder: Path, text: str) -> tuple[int, ...]:
    """Ids of a text, without special ones."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    return tuple(tokenizer.encode(text, add_special_tokens=False).ids)
