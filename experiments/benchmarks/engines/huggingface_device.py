"""transformers on an accelerator: a model of given sizes with random bfloat16 weights.

`generate` with a static cache compiles its decode step there by itself.
"""

from __future__ import annotations

import time
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM

from experiments.benchmarks.engines.huggingface import Clock

NAMES = {
    "vocab_size": "vocab_size",
    "hidden_size": "width",
    "intermediate_size": "mlp_width",
    "num_hidden_layers": "layers",
    "num_attention_heads": "heads",
    "num_key_value_heads": "kv_heads",
    "head_dim": "head_width",
}
"""transformers' names of the sizes."""


class Engine:
    """A model with random weights."""

    def __init__(self, *, family: str, sizes: dict[str, Any]):
        if not torch.cuda.is_available():
            raise RuntimeError("this PyTorch sees no GPU")
        config = AutoConfig.for_model(
            family,
            **{theirs: sizes[ours] for theirs, ours in NAMES.items()},
            max_position_embeddings=8192,
            tie_word_embeddings=sizes.get("tied_head", False),
        )
        torch.set_default_dtype(torch.bfloat16)
        with torch.device("cuda"):
            self.model = AutoModelForCausalLM.from_config(config).eval()
        self.model.generation_config.eos_token_id = None
        self.model.generation_config.pad_token_id = 0

    def about(self) -> dict[str, Any]:
        """The device."""
        return {"device": torch.cuda.get_device_name()}

    def decode(self, rows: int, context: int, count: int) -> dict[str, Any]:
        """Rows of one prompt that end with `context` tokens, `count` of them new."""
        ids = torch.arange(context - count, device="cuda") % self.model.config.vocab_size
        prompt, clock = ids.repeat(rows, 1), Clock()
        torch.cuda.synchronize()
        began = time.perf_counter()
        with torch.inference_mode():
            self.model.generate(
                prompt,
                attention_mask=torch.ones_like(prompt),
                max_new_tokens=count,
                do_sample=True,
                temperature=0.8,
                top_k=0,
                cache_implementation="static",
                streamer=clock,
            )
        torch.cuda.synchronize()
        ended = time.perf_counter()
        return {
            "rows": rows,
            "made": rows * count,
            "first": clock.first - began,
            "seconds": ended - began,
            "decoding": ended - clock.first,
        }
