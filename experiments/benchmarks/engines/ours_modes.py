"""The toolkit in both modes, and strict mode's promise: the same bits in any company.

One process holds both, so that their weights lie in the same kind of memory: two processes of one
program have differed by a fifth for as long as they lived.
"""

from __future__ import annotations

import concurrent.futures
import dataclasses
from typing import Any

from experiments.benchmarks.engines import ours

DEFAULT, STRICT = "default mode", "strict mode"


class Engine(ours.Engine):
    """A model loaded twice."""

    def __init__(self, *, folder: str, **arguments: Any):
        import toolkit

        super().__init__(folder=folder, **arguments)
        self.modes = {DEFAULT: self.lm, STRICT: toolkit.load(folder, strict=True)}

    def about(self) -> dict[str, Any]:
        """The ways to run it."""
        return {"variants": list(self.modes)}

    def decode(self, *args: Any, variant: str = "", **asked: Any) -> dict[str, Any]:
        """In the mode that `variant` names."""
        self.lm = self.modes[variant]
        return super().decode(*args, **asked)

    def reproduce(self, requests: list[dict[str, Any]], companies: list[int]) -> dict[str, Any]:
        """Run each request alone in strict mode, then among others in groups of each size.

        `equal` counts the runs in company, `of` all of them, whose tokens and log-probabilities are
        those of the run alone, bit by bit; `differing` are the fields of the others that are not.
        The prompt store is emptied before each group.
        """
        self.lm = self.modes[STRICT]
        alone = [self._bits(request) for request in requests]
        equal = of = 0
        differing: set[str] = set()
        for size in companies:
            for start in range(0, len(requests), size):
                group = requests[start : start + size]
                self.lm.engine.forget_prompts()
                with concurrent.futures.ThreadPoolExecutor(len(group)) as threads:
                    found = list(threads.map(self._bits, group))
                for one, other in zip(found, alone[start:], strict=False):
                    equal += one == other
                    differing |= unequal(one, other)
                of += len(group)
        return {"equal": equal, "of": of, "differing": sorted(differing)}

    def _bits(self, request: dict[str, Any]) -> list[Any]:
        """Everything about the tokens of an answer that the device computed."""
        asked = dict(request)
        record = self.lm.complete(asked.pop("prompt"), **asked).record
        return [choice.tokens for choice in record.choices]


def unequal(one: list[Any], other: list[Any]) -> set[str]:
    """Fields in which the tokens of two answers differ; the later tokens follow from the first."""
    for tokens, others in zip(one, other, strict=True):
        for a, b in zip(tokens, others, strict=False):
            if a != b:
                names = (field.name for field in dataclasses.fields(a))
                return {name for name in names if getattr(a, name) != getattr(b, name)}
    return set()
