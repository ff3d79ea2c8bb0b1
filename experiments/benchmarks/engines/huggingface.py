"""Hugging Face transformers on PyTorch: `generate` with each cache that it offers on CPU.

SDPA attention is its default. The static cache and its compiled form are what its documentation
recommends for speed; on CPU `generate` compiles only when told that every device may.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
from transformers import AutoModelForCausalLM
from transformers.generation import CompileConfig
from transformers.generation.streamers import BaseStreamer

from experiments.benchmarks.engines.peak import peak

torch._dynamo.config.recompile_limit = 64  # one program for each shape of batch, cache and prompt
ORDERS: dict[str, Callable[[list[Any]], Any]] = {
    "by prompt": lambda one: len(one[0]),
    "by answer": lambda one: (one[1], len(one[0])),
}
"""Ways to sort requests, each `[ids, count]`, before they are cut into batches."""
PADDING = 0


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

    def __init__(self, *, folder: str, gguf: dict[str, str], threads: int, context: int):
        torch.set_num_threads(threads)
        self.model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
        self.model.generation_config.eos_token_id = None
        self.model.generation_config.pad_token_id = PADDING
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

    def decode(self, ids: list[int], count: int, variant: str, rows: int = 1) -> dict[str, Any]:
        """The same prompt in some rows, greedily. Tokens of the first row, seconds to the first
        token, seconds in all."""
        clock, prompt = Clock(), torch.tensor([ids] * rows)
        began = time.perf_counter()
        out = self._generate(prompt, None, count, variant, do_sample=False, streamer=clock)
        seconds = time.perf_counter() - began
        return {
            "tokens": out[0, len(ids) :].tolist(),
            "made": out[:, len(ids) :].numel(),
            "first": clock.first - began,
            "seconds": seconds,
        }

    def sample(
        self, ids: list[int], n: int, count: int, variant: str, logprobs: int, **asked: Any
    ) -> dict[str, Any]:
        """n samples of one prompt, with log-probabilities of the tokens drawn and of the best."""
        began = time.perf_counter()
        out = self._generate(
            torch.tensor([ids]),
            None,
            count,
            variant,
            num_return_sequences=n,
            return_dict_in_generate=True,
            output_logits=True,
            **_sampling(asked),
        )
        with torch.inference_mode():
            for step, logits in enumerate(out.logits):
                known = logits.log_softmax(dim=-1)
                known.gather(1, out.sequences[:, len(ids) + step, None]).tolist()
                _listed(known.topk(logprobs))
        return {
            "made": out.sequences[:, len(ids) :].numel(),
            "seconds": time.perf_counter() - began,
        }

    def score(self, prompts: list[list[int]], variant: str) -> dict[str, Any]:
        """The log-probability of each prompt after its first token.

        `variant` ends in the number of prompts that go through the network together; they are
        sorted by length and padded on the right.
        """
        size = int(variant.split()[-1])
        sums = [0.0] * len(prompts)
        order = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))
        began = time.perf_counter()
        with torch.inference_mode(), peak() as growth:
            for start in range(0, len(order), size):
                chosen = order[start : start + size]
                found = self._sums([prompts[i] for i in chosen])
                for i, logprob in zip(chosen, found, strict=True):
                    sums[i] = logprob
            memory = growth()
        seconds = time.perf_counter() - began
        return {"made": len(sums), "logprobs": sums, "seconds": seconds, "memory": memory}

    def _sums(self, prompts: list[list[int]]) -> list[float]:
        longest = max(map(len, prompts))
        ids = torch.tensor([p + [PADDING] * (longest - len(p)) for p in prompts])
        lengths = torch.tensor([len(p) for p in prompts])[:, None]
        mask = (torch.arange(longest)[None] < lengths).long()
        whole = bool(mask.all())
        logits = self.model(ids, attention_mask=None if whole else mask, use_cache=False).logits
        known = logits[:, :-1].log_softmax(dim=-1)
        picked = known.gather(2, ids[:, 1:, None])[:, :, 0]
        return (picked * mask[:, 1:]).sum(dim=1).tolist()

    def sweep(
        self, ids: list[int], count: int, asked: list[dict[str, Any]], variant: str
    ) -> dict[str, Any]:
        """One prompt under several settings, one after another: `generate` takes one setting."""
        prompt, made = torch.tensor([ids]), 0
        began = time.perf_counter()
        for one in asked:
            out = self._generate(prompt, None, count, variant, **_sampling(one))
            made += out.shape[1] - len(ids)
        return {"made": made, "seconds": time.perf_counter() - began}

    def requests(self, requests: list[list[Any]], variant: str) -> dict[str, Any]:
        """Requests that are there together, each `[ids, count]`, in static batches.

        `variant` is the cache, the order and the rows of a batch. A batch makes as many tokens for
        all its rows as the longest answer has. Who has requests knows the lengths of the prompts
        and may sort by them; the lengths of the answers are known afterwards. Prompts are padded on
        the left.
        """
        cache, order_by, rows = variant.split(", ")
        size = int(rows.removeprefix("rows "))
        order = sorted(requests, key=ORDERS[order_by])
        began, made = time.perf_counter(), 0
        for start in range(0, len(order), size):
            batch = order[start : start + size]
            longest = max(len(ids) for ids, _ in batch)
            padded = [[PADDING] * (longest - len(ids)) + ids for ids, _ in batch]
            mask = [[0] * (longest - len(ids)) + [1] * len(ids) for ids, _ in batch]
            most = max(count for _, count in batch)
            self._generate(torch.tensor(padded), torch.tensor(mask), most, cache, do_sample=False)
            made += sum(count for _, count in batch)
        return {"made": made, "seconds": time.perf_counter() - began}

    def _generate(
        self,
        prompt: torch.Tensor,
        mask: torch.Tensor | None,
        count: int,
        variant: str,
        **asked: Any,
    ) -> Any:
        with torch.inference_mode():
            return self.model.generate(
                prompt,
                attention_mask=torch.ones_like(prompt) if mask is None else mask,
                max_new_tokens=count,
                min_new_tokens=count,
                **asked,
                **self.variants[variant],
            )

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


def _sampling(asked: dict[str, Any]) -> dict[str, Any]:
    """The toolkit's names in transformers' terms; the seed is the process's own there."""
    if asked.get("temperature") == 0:
        return {"do_sample": False}
    known = {"top_k": 0, "top_p": 1.0} | asked
    known.pop("seed", None)
    return {"do_sample": True, **known}


def _listed(found: Sequence[torch.Tensor]) -> list[Any]:
    return [part.tolist() for part in found]
