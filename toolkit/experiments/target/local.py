"""The engine in this process as a target."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, cast

from toolkit.completion.complete import LM
from toolkit.completion.request import CompletionRequest, Dialect, parse
from toolkit.completion.response import legacy, legacy_chunk, legacy_usage_chunk
from toolkit.completion.run import Run
from toolkit.experiments.target.protocol import Answer, Events
from toolkit.experiments.target.sums import tokenizer_sum, weights_sum
from toolkit.sampling.version import SAMPLER


class Local:
    """A loaded model, asked without HTTP. Answers have the legacy shape, and the record.

    Every parameter of the Python functions is taken. The model stays open when this is closed.
    """

    def __init__(self, lm: LM, *, name: str | None = None):
        self.lm = lm
        self.name = name or lm.name

    def complete(self, fields: Mapping[str, Any]) -> Answer:
        """Ask once; see `Target.complete`. `model` may name only the one that is loaded."""
        record = self.lm.run(self._parse(fields, stream=False))
        return Answer(
            body=cast(dict[str, Any], legacy(record)),
            record=record,
            seconds=record.timings.total,
            first_token=record.timings.first_token,
        )

    def stream(self, fields: Mapping[str, Any]) -> Events:
        """Ask once and read the legacy events to the end."""
        began, first = time.perf_counter(), None
        run = Run(self.lm, self._parse(fields, stream=True))
        chunks: list[Any] = []
        for delta in run.deltas():
            if first is None and delta.text:
                first = time.perf_counter() - began
            chunks.append(legacy_chunk(run.head, delta, run.usage))
        if run.request.stream_options.include_usage:
            chunks.append(legacy_usage_chunk(run.head, run.usage))
        seconds = time.perf_counter() - began
        return Events(chunks=tuple(chunks), done=True, seconds=seconds, first_token=first)

    def tokenize(self, text: str) -> list[int]:
        """The ids of a string prompt, BOS included."""
        ids, _ = self.lm.tokenizer.encode_prompt(text, add_special_tokens=True)
        return list(ids)

    def identity(self) -> dict[str, Any]:
        """Sums of weights and tokenizer, and the version of the sampler."""
        engine = self.lm.engine
        return {
            "kind": "local",
            "weights": weights_sum(engine),
            "tokenizer": tokenizer_sum(self.lm.tokenizer),
            "sampler": SAMPLER,
            "says": {
                "model": self.lm.name,
                "fingerprint": self.lm.fingerprint,
                "dtype": str(engine.dtype),
                "context": self.lm.context,
                "strict": engine.limits.strict,
                "kernels": engine.config.kernels,
            },
        }

    def close(self) -> None:
        """Nothing to give back: whoever loaded the model closes it."""

    def _parse(self, fields: Mapping[str, Any], *, stream: bool) -> CompletionRequest:
        given = {name: value for name, value in fields.items() if name != "stream"}
        return parse(
            {**given, "stream": stream},
            dialect=Dialect.PYTHON,
            limits=self.lm.limits,
            known_models={self.lm.name},
        )

    def __repr__(self) -> str:
        return f"<Local {self.name}>"
