"""llama-cpp-python on the F32 GGUF, through its token generator: no text is made.

Threads are given for decoding and for prompts; flash attention, the cache's type (float16) and the
batch sizes are its defaults; logits are kept for the last token only.
"""

from __future__ import annotations

import itertools
import time
from typing import Any

from llama_cpp import Llama


class Engine:
    """A loaded model. Its context is emptied before each request: prompts are computed."""

    def __init__(self, *, folder: str, gguf: str, threads: int, context: int):
        self.llama = Llama(
            gguf,
            n_ctx=context,
            n_threads=threads,
            n_threads_batch=threads,
            logits_all=False,
            verbose=False,
        )

    def about(self) -> dict[str, Any]:
        """The ways to run it."""
        return {"variants": ["F32 GGUF"]}

    def decode(self, ids: list[int], count: int, variant: str) -> dict[str, Any]:
        """Greedy tokens, seconds to the first, seconds in all."""
        self.llama.reset()
        began = time.perf_counter()
        drawn = self.llama.generate(ids, temp=0.0, repeat_penalty=1.0)
        tokens = [next(drawn)]
        first = time.perf_counter()
        tokens += itertools.islice(drawn, count - 1)
        ended = time.perf_counter()
        return {"tokens": tokens, "first": first - began, "seconds": ended - began}
