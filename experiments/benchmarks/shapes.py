"""Sizes of models that are too large to be fetched for a measurement: their weights are random."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any


@dataclasses.dataclass(frozen=True, kw_only=True)
class Shape:
    """A decoder's sizes, and the batches that it is measured with."""

    name: str
    sizes: Mapping[str, Any]
    """As in `toolkit.models.config.ModelConfig`, its parts as mappings of their own."""
    family: str = "llama"
    """transformers' name of the architecture."""
    batches: tuple[int, ...] = (1, 16, 64, 256)
    context: int = 1024
    """Tokens in a row at the end, prompt included."""
    count: int = 128
    """Of which new."""
    targets: Mapping[int, tuple[float, float]] = dataclasses.field(default_factory=dict)
    """Tokens a second on an H100 by rows: at least, and aimed at."""

    def facts(self) -> dict[str, Any]:
        """What an engine is loaded with."""
        return {"family": self.family, "sizes": dict(self.sizes)}


LLAMA_8B = Shape(
    name="Llama-3.1-8B",
    sizes={
        "vocab_size": 128_256,
        "width": 4096,
        "mlp_width": 14_336,
        "layers": 32,
        "heads": 32,
        "kv_heads": 8,
        "head_width": 128,
        "rope": {"theta": 500_000.0},
    },
    targets={1: (150, 168), 16: (1950, 2250), 64: (4900, 6100), 256: (7800, 10_500)},
)

QWEN_06B = Shape(
    name="Qwen3-0.6B",
    sizes={
        "vocab_size": 151_936,
        "width": 1024,
        "mlp_width": 3072,
        "layers": 28,
        "heads": 16,
        "kv_heads": 8,
        "head_width": 128,
        "rope": {"theta": 1_000_000.0},
        "tied_head": True,
    },
    targets={1: (700, 1150), 16: (7000, 9500), 64: (11_000, 15_000), 256: (11_000, 16_000)},
)

GEMMA_2B = Shape(
    name="Gemma-2-2B",
    family="gemma2",
    sizes={
        "vocab_size": 256_000,
        "width": 2304,
        "mlp_width": 9216,
        "layers": 26,
        "heads": 8,
        "kv_heads": 4,
        "head_width": 256,
        "kinds": [{"window": 4096}, {}] * 13,
        "norm": "rms_offset",
        "post_norm": True,
        "attention_cap": 50.0,
        "logit_cap": 30.0,
        "activation": "gelu_tanh",
        "embedding_scale": 48.0,
        "tied_head": True,
    },
    batches=(1, 16, 64),
)

PYTHIA_1B = Shape(
    name="Pythia-1.4B",
    family="gpt_neox",
    sizes={
        "vocab_size": 50_304,
        "width": 2048,
        "mlp_width": 8192,
        "layers": 24,
        "heads": 16,
        "kv_heads": 16,
        "head_width": 128,
        "rope": {"width": 32},
        "norm": "layer",
        "parallel": True,
        "qkv_bias": True,
        "output_bias": True,
        "mlp_bias": True,
        "activation": "gelu",
        "gated": False,
    },
    batches=(1, 16, 64),
)

LARGE = (QWEN_06B, LLAMA_8B, GEMMA_2B, PYTHIA_1B)

TINY = (
    Shape(
        name="a toy",
        sizes={
            "vocab_size": 512,
            "width": 64,
            "mlp_width": 96,
            "layers": 2,
            "heads": 4,
            "kv_heads": 2,
            "head_width": 16,
        },
        batches=(1, 4),
        context=32,
        count=8,
    ),
)
"""Small enough for any device: it shows that the scripts run."""
