"""The toolkit with eight-bit weights, and what they change."""

from __future__ import annotations

import concurrent.futures
import inspect
import math
from typing import Any

import numpy as np

from experiments.benchmarks.engines import ours


class Engine(ours.Engine):
    """A model loaded with `quant="int8"`."""

    def __init__(self, *, folder: str, **arguments: Any):
        self.folder = folder
        super().__init__(folder=folder, **arguments, quant="int8")

    def about(self) -> dict[str, Any]:
        """The ways to run it."""
        return {"variants": ["W8A8"]}

    def quality(self, ids: list[int]) -> dict[str, Any]:
        """Perplexity of a text under float32 and under int8, and the divergence between them.

        `kl`: mean over the positions of KL(float32 || int8) in nats; `agree`: share of positions
        with the same most probable token.
        """
        import toolkit

        exact = toolkit.load(self.folder)
        with concurrent.futures.ThreadPoolExecutor() as threads:
            wide, narrow = threads.map(every_logprob, (exact, self.lm), (ids, ids))
        exact.close()
        targets = np.asarray(ids[1:])[:, None]
        kl = (np.exp(wide) * (wide - narrow)).sum(axis=1)
        return {
            "perplexity_float32": math.exp(-np.take_along_axis(wide, targets, 1).mean()),
            "perplexity_int8": math.exp(-np.take_along_axis(narrow, targets, 1).mean()),
            "kl": float(kl.mean()),
            "agree": float((wide.argmax(axis=1) == narrow.argmax(axis=1)).mean()),
        }


def every_logprob(lm: Any, ids: list[int]) -> np.ndarray:
    """The model's whole distribution at each position but the last: `[N - 1, V]`, float64."""
    from toolkit.engine.job import Ended, Failed, Job, Prompted
    from toolkit.sampling.params import SamplingParams

    vocabulary = lm.engine.config.vocab_size
    job = Job(prompt=tuple(ids), params=SamplingParams(), max_tokens=0, score=vocabulary)
    _, events = lm.engine.submit([job])
    found = np.empty((len(ids) - 1, vocabulary))
    while not isinstance(event := events.get(), Ended):
        if isinstance(event, Failed):
            raise event.error
        if isinstance(event, Prompted) and event.scores is not None:
            scores = event.scores
            np.put_along_axis(found, scores.top_ids, np.asarray(scores.top_logprobs, float), 1)
    return found


def supported() -> bool:
    """Whether this version of the toolkit can load a model in eight bits."""
    import toolkit

    return "quant" in inspect.signature(toolkit.load).parameters
