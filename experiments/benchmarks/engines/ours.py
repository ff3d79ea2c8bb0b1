"""The toolkit, through the calls that its users make.

Unless a scenario is about reuse, the prompt store is emptied before each request: prompts are
computed. Text, log-probabilities of the chosen tokens and the record are always part of the answer.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from experiments.benchmarks.engines.peak import peak

FIXED: dict[str, Any] = {"ignore_eos": True}
"""What every request is given: the number of tokens is that of the peers."""


class Engine:
    """A loaded model."""

    def __init__(
        self,
        *,
        folder: str,
        gguf: dict[str, str],
        threads: int,
        context: int,
        **loading: Any,
    ):
        import toolkit

        self.lm = toolkit.load(folder, **loading)

    def about(self) -> dict[str, Any]:
        """The ways to run it."""
        return {"variants": ["float32"]}

    def decode(
        self, ids: list[int], count: int, rows: int = 1, variant: str = "", **asked: Any
    ) -> dict[str, Any]:
        """The same prompt in some rows, greedily unless `asked` says otherwise.

        Tokens of the first row, seconds to the first token, seconds in all.
        """
        self.lm.engine.forget_prompts()
        parameters = {"temperature": 0, "max_tokens": count, **FIXED, **asked}

        def complete() -> Any:
            return self.lm.complete([ids] * rows, **parameters)

        answer, turn = self._timed(complete)
        return {
            "tokens": [token.id for token in answer.record.choices[0].tokens],
            "made": answer.record.usage.completion_tokens,
            "first": answer.record.timings.first_token,
            **turn,
        }

    def sample(
        self, ids: list[int], n: int, count: int, variant: str = "", **asked: Any
    ) -> dict[str, Any]:
        """n samples of one prompt."""
        self.lm.engine.forget_prompts()

        def complete() -> Any:
            return self.lm.complete(ids, n=n, max_tokens=count, **FIXED, **asked)

        answer, turn = self._timed(complete)
        return {"made": answer.record.usage.completion_tokens, **turn}

    def score(self, prompts: list[list[int]], variant: str = "") -> dict[str, Any]:
        """The log-probability of each prompt after its first token."""
        self.lm.engine.forget_prompts()
        with peak() as growth:
            scores, turn = self._timed(lambda: self.lm.score(prompts))
            memory = growth()
        return {"made": len(scores), "logprobs": [s.logprob for s in scores], "memory": memory} | (
            turn
        )

    def sweep(
        self, ids: list[int], count: int, asked: list[dict[str, Any]], variant: str
    ) -> dict[str, Any]:
        """One prompt under several settings, together or one after another.

        The first computes the prompt, the others find it.
        """
        self.lm.engine.forget_prompts()
        requests = [{"prompt": ids, "max_tokens": count, **FIXED, **one} for one in asked]
        return self._many(requests, together=variant == "together")

    def requests(self, requests: list[list[Any]], variant: str = "") -> dict[str, Any]:
        """Requests that arrive together, each `[ids, count]`."""
        self.lm.engine.forget_prompts()
        greedy = {"temperature": 0, **FIXED}
        return self._many(
            [{"prompt": ids, "max_tokens": count, **greedy} for ids, count in requests],
            together=True,
        )

    def warm_up(self, rows: int, tokens: int) -> dict[str, Any]:
        """Compile ahead what such sizes need."""
        programs, turn = self._timed(lambda: self.lm.warm_up(rows, tokens))
        return {"programs": programs, "read": self.lm.stats().from_disk, **turn}

    def mixture(self, groups: list[list[dict[str, Any]]]) -> dict[str, Any]:
        """Requests of every kind, in groups that arrive together; the programs that they needed."""
        compiled = len(self.lm.stats().compiles)
        turns = [self._many(group, together=True) for group in groups]
        return {
            "made": sum(turn["made"] for turn in turns),
            "seconds": sum(turn["seconds"] for turn in turns),
            "compiled": sum(turn["compiled"] for turn in turns),
            "programs": [name for name, _ in self.lm.stats().compiles[compiled:]],
        }

    def _many(self, requests: list[dict[str, Any]], *, together: bool) -> dict[str, Any]:
        """Run requests and count their tokens.

        Together they are all submitted before one is waited for, as a server does with a thread for
        each; from one thread they arrive at the same time on a busy machine too.
        """

        def work() -> int:
            runs = (self._begin(request) for request in requests)
            waiting = list(runs) if together else runs
            return sum(run.finish().usage.completion_tokens for run in waiting)

        made, turn = self._timed(work)
        return {"made": made, **turn}

    def _begin(self, request: dict[str, Any]) -> Any:
        """A request on its way: the first half of `LM.complete`."""
        from toolkit.completion.run import Run

        asked = dict(request)
        prompt = asked.pop("prompt")
        return Run(self.lm, self.lm.parse(prompt, asked, stream=False))

    def _timed(self, act: Callable[[], Any]) -> tuple[Any, dict[str, Any]]:
        """What `act` gives; its seconds, and the programs that were compiled meanwhile."""
        compiled = len(self.lm.stats().compiles)
        began = time.perf_counter()
        result = act()
        seconds = time.perf_counter() - began
        return result, {
            "seconds": seconds,
            "compiled": len(self.lm.stats().compiles) - compiled,
        }
