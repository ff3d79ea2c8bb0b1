"""The toolkit in strict mode, and its promise: the same bits in any company."""

from __future__ import annotations

import concurrent.futures
from typing import Any

from experiments.benchmarks.engines import ours


class Engine(ours.Engine):
    """A model loaded with `strict=True`."""

    def __init__(self, **arguments: Any):
        super().__init__(**arguments, strict=True)

    def reproduce(self, requests: list[dict[str, Any]], companies: list[int]) -> dict[str, Any]:
        """Run each request alone, then among others in groups of each size.

        `equal` counts the runs in company, `of` all of them, whose tokens and log-probabilities are
        those of the run alone, bit by bit. The prompt store is emptied before each group.
        """
        alone = [self._bits(request) for request in requests]
        equal = of = 0
        for size in companies:
            for start in range(0, len(requests), size):
                group = requests[start : start + size]
                self.lm.engine.forget_prompts()
                with concurrent.futures.ThreadPoolExecutor(len(group)) as threads:
                    found = list(threads.map(self._bits, group))
                equal += sum(a == b for a, b in zip(found, alone[start:], strict=False))
                of += len(group)
        return {"equal": equal, "of": of}

    def _bits(self, request: dict[str, Any]) -> list[Any]:
        """Everything about the tokens of an answer that the device computed."""
        asked = dict(request)
        record = self.lm.complete(asked.pop("prompt"), **asked).record
        return [choice.tokens for choice in record.choices]
