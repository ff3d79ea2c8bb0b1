"""Hugging Face transformers on PyTorch: `generate` with each cache that it offers on CPU.

SDPA attention is its default. The static cache and its compiled form are what its documentation
recommends for speed; on CPU `generate` compiles only when told that every device may.
"""

from __future__ import annotations

import time
from typing import Any

import torch
from transformers import AutoModelForCausalLM
from transformers.generation import CompileConfig
from transformers.generation.streamers import BaseStreamer


class Clock(BaseStreamer):
    """Notes when the first token came. `generate` puts the prompt first, then each token."""

    def __init__(self) -> None:
        self.calls = 0
        self.first = 0.0

    def put(self, value: torch.Tensor) -> None:
        self.calls += 1
        if self.calls == 2:
            self.first = time.perf_counter()

    def end(self) -> None: ...


class Engine:
    """A loaded model."""

    def __init__(self, *, folder: str, gguf: str, threads: int, context: int):
        torch.set_num_threads(threads)
        self.model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
        self.model.generation_config.eos_token_id = None
        compiled = CompileConfig(mode="default", dynamic=False, fullgraph=False)
        compiled._compile_all_devices = True
        static = {"cache_implementation": "static"}
        self.variants: dict[str, dict[str, Any]] = {
            "dynamic cache": {},
            "static cache": {**static, "disable_compile": True},
            "static cache, compiled": {**static, "compile_config": compiled},
        }

    def about(self) -> dict[str, Any]:
        """The ways to run it."""
        return {"variants": list(self.variants)}

    def decode(self, ids: list[int], count: int, variant: str) -> dict[str, Any]:
        """Greedy tokens, seconds to the first, seconds in all."""
        clock, prompt = Clock(), torch.tensor([ids])
        began = time.perf_counter()
        with torch.inference_mode():
            out = self.model.generate(
                prompt,
                attention_mask=torch.ones_like(prompt),
                max_new_tokens=count,
                do_sample=False,
                streamer=clock,
                **self.variants[variant],
            )
        tokens = out[0, len(ids) :].tolist()
        return {
            "tokens": tokens,
            "first": clock.first - began,
            "seconds": time.perf_counter() - began,
        }

    def judge(self, ids: list[int], tokens: list[int]) -> dict[str, Any]:
        """Another engine's greedy tokens against this model's logits, given those same tokens.

        `equal` of `of` positions have the same best token; `gap` is the most by which a chosen
        logit is below the best one.
        """
        with torch.inference_mode():
            logits = self.model(torch.tensor([ids + tokens])).logits[0, len(ids) - 1 : -1]
        chosen = torch.tensor(tokens)
        gaps = logits.max(dim=-1).values - logits[torch.arange(len(tokens)), chosen]
        return {
            "equal": int((logits.argmax(dim=-1) == chosen).sum()),
            "of": len(tokens),
            "gap": float(gaps.max()),
        }
