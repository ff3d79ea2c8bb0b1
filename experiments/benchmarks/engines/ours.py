"""The toolkit, through the call that its users make."""

from __future__ import annotations

import time
from typing import Any


class Engine:
    """A loaded model. The prompt store is emptied before each request: prompts are computed."""

    def __init__(self, *, folder: str, gguf: str, threads: int, context: int):
        import toolkit

        self.lm = toolkit.load(folder)

    def about(self) -> dict[str, Any]:
        """The ways to run it."""
        return {"variants": ["float32"]}

    def decode(self, ids: list[int], count: int, variant: str) -> dict[str, Any]:
        """Greedy tokens, seconds to the first, seconds in all, programs compiled meanwhile."""
        self.lm.engine.forget_prompts()
        compiled = len(self.lm.stats().compiles)
        began = time.perf_counter()
        answer = self.lm.complete(ids, max_tokens=count, temperature=0, ignore_eos=True)
        seconds = time.perf_counter() - began
        return {
            "tokens": [token.id for token in answer.record.choices[0].tokens],
            "first": answer.record.timings.first_token,
            "seconds": seconds,
            "compiled": len(self.lm.stats().compiles) - compiled,
        }
