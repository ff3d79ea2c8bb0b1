"""`LM`: a loaded model that completes, streams and scores."""

from __future__ import annotations

import functools
import threading
from collections.abc import Generator, Mapping, Sequence
from types import TracebackType
from typing import Any, Self, Unpack

import numpy as np

from toolkit.completion.logits import next_logits
from toolkit.completion.parameters import Parameters
from toolkit.completion.record import Completion, CompletionRecord
from toolkit.completion.request import (
    DEFAULT_LIMITS,
    CompletionRequest,
    Dialect,
    Limits,
    parse,
)
from toolkit.completion.response import strict, strict_chunk, strict_usage_chunk
from toolkit.completion.run import Run, Stream
from toolkit.completion.scores import (
    ChoiceProbability,
    ChoiceScore,
    TextScore,
    choose,
    score,
    score_choices,
)
from toolkit.completion.shapes import StrictChunk
from toolkit.completion.text import Tokenizer
from toolkit.completion.warm import warm_up
from toolkit.engine.engine import Engine
from toolkit.engine.stats import Stats
from toolkit.errors import InvalidRequest
from toolkit.sampling.guide import Guide

GUIDES = 64
"""Sets of choices whose automata are kept for the next request."""


class LM:
    """A language model on a device. Make one with `toolkit.load`; close it to free the memory.

    Every method may be called from any thread; what runs at the same time shares a batch.
    """

    def __init__(
        self,
        engine: Engine,
        tokenizer: Tokenizer,
        *,
        name: str,
        fingerprint: str | None = None,
        limits: Limits = DEFAULT_LIMITS,
    ):
        self.engine = engine
        self.tokenizer = tokenizer
        self.name = name
        self.fingerprint = fingerprint
        self.limits = limits
        self.context = engine.limits.context
        self._guides: dict[tuple[str, ...], Guide] = {}
        self._lock = threading.Lock()

    # --- what users call ------------------------------------------------------------------------

    def complete(self, prompt: Any, **parameters: Unpack[Parameters]) -> Completion:
        """Complete a prompt: a string, a list of strings, token ids, or a list of those.

        Returns the specification's completion as a dict, with everything else in `.record`.
        Parameters are those of `CompletionRequest`. Ctrl-C stops the completion; the next one
        works.

        Raises InvalidRequest for parameters that break a rule, EngineFault for our own faults.
        """
        record = self.run(self.parse(prompt, parameters, stream=False))
        return Completion(strict(record), record)

    def stream(self, prompt: Any, **parameters: Unpack[Parameters]) -> Stream[StrictChunk]:
        """Complete a prompt in pieces: an iterator of the specification's chunks.

        Everything is checked when this is called, not at the first piece. Closing the iterator
        stops the completion.
        """
        run = Run(self, self.parse(prompt, parameters, stream=True))
        return Stream(run, _strict_chunks(run))

    def score(
        self, texts: Any, *, top: int = 0, add_special_tokens: bool = True
    ) -> list[TextScore]:
        """Log-probabilities of texts that are given: nothing is generated.

        `texts` takes the forms of a prompt. `top` alternatives are reported for each token. The
        first token of a text has none unless the tokenizer puts a BOS in front of it.
        """
        return score(self, texts, top=top, add_special_tokens=add_special_tokens)

    def logits(self, prompt: str | Sequence[int], *, add_special_tokens: bool = True) -> np.ndarray:
        """The model's own logits of the token after one prompt: `[V]` float32, index = token id.

        They are what every sampling parameter works on, before any of them. A prompt that was
        computed before costs nothing, one that goes on from it only its new tokens.
        """
        return next_logits(self, prompt, add_special_tokens=add_special_tokens)

    def choose(
        self, prompt: str | Sequence[int], choices: Sequence[str]
    ) -> list[ChoiceProbability]:
        """The exact probability that the model continues a prompt with each of the choices.

        By the choice's canonical tokens, and summed over all its tokenisations where they are few.
        """
        return choose(self, prompt, choices)

    def score_choices(
        self, prompts: Any, choices: Sequence[str] | Sequence[Sequence[str]]
    ) -> list[list[ChoiceScore]]:
        """Log-probability of each choice after each prompt, as evaluation harnesses ask for it.

        `choices`: strings for all prompts, or a list of strings for each. One list a prompt comes
        back, in order. The choice is tokenised on its own, without a space put in front.
        """
        return score_choices(self, prompts, choices)

    def warm_up(
        self, rows: int = 1, tokens: int | None = None, **parameters: Unpack[Parameters]
    ) -> int:
        """Compile programs ahead of the first request, or read them from disk; how many were new.

        Afterwards nothing is compiled while up to `rows` sequences run or wait at one time, each of
        up to `tokens` tokens of prompt and completion; None is 256, or the context. On CPU one
        program serves every parameter, on an accelerator each mix has its own: name the
        `parameters` that will be asked for. Everywhere name `prompt_logprobs` if prompts will be
        scored (also by `echo` with `logprobs`, `score` and `choose`), more than 20 `logprobs`, and
        large sets of `logit_bias` or `guided_choice`. What is not foreseen is compiled when a
        request first needs it, and so is what the system has no room for; a warning says that.

        Raises InvalidRequest for sizes beyond `max_batch` and the context.
        """
        return warm_up(self, rows, tokens, parameters)

    def stats(self) -> Stats:
        """What the engine has done so far."""
        return self.engine.stats

    def close(self) -> None:
        """Stop what runs and free the device's memory."""
        self.engine.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        c = self.engine.config
        size = f"{c.layers} layers, width {c.width}, vocabulary {c.vocab_size}"
        place = f"context {self.context}, {self.engine.dtype}{', kernels' if c.kernels else ''}"
        return f"<LM {self.name}: {c.family}, {size}, {place}; {self.engine.stats!r}>"

    def _repr_html_(self) -> str:
        """The card that Jupyter shows."""
        # Not at the top: pandas is not on the way to a first token.
        from toolkit.analysis import card

        c = self.engine.config
        rows = {
            "family": f"{c.family}, {c.layers} layers, width {c.width}",
            "vocabulary": f"{c.vocab_size:,} tokens",
            "context": f"{self.context:,} tokens",
            "dtype": f"{self.engine.dtype}{', compiled kernels' if c.kernels else ''}",
            "fingerprint": self.fingerprint or "none",
            "so far": repr(self.engine.stats),
        }
        return card.table(self.name, rows)

    # --- what the other surfaces call -------------------------------------------------------------

    def parse(
        self, prompt: Any, parameters: Mapping[str, Any], *, stream: bool
    ) -> CompletionRequest:
        """Keyword arguments as a request."""
        given = parameters.get("stream")
        if given is not None and given is not stream:
            other = "stream" if given else "complete"
            raise InvalidRequest(
                f"`stream` {given!r} does not fit this function. Call `{other}(...)` instead.",
                param="stream",
            )
        fields = {**parameters, "prompt": prompt, "stream": stream}
        return parse(
            fields, dialect=Dialect.PYTHON, limits=self.limits, known_models={self.name, None}
        )

    def run(self, request: CompletionRequest) -> CompletionRecord:
        """Run a request to its end."""
        return Run(self, request).finish()

    def guide(self, choices: tuple[str, ...]) -> Guide:
        """The automaton of a set of choices, kept for the next request with the same."""
        with self._lock:
            guide = self._guides.pop(choices, None)
            if guide is None:
                eos = next(iter(self.tokenizer.eos_ids), None)
                encoded = [choice.encode() for choice in choices]
                guide = Guide.from_choices(encoded, self.pieces, eos)
            self._guides[choices] = guide  # the newest stands last
            while len(self._guides) > GUIDES:
                del self._guides[next(iter(self._guides))]
            return guide

    @functools.cached_property
    def pieces(self) -> dict[bytes, list[int]]:
        """The ids that stand for some bytes; special tokens are no text and stand for none."""
        pieces: dict[bytes, list[int]] = {}
        for token, spelled in enumerate(self.tokenizer.vocabulary()):
            if spelled and token not in self.tokenizer.special_ids:
                pieces.setdefault(spelled, []).append(token)
        return pieces


def _strict_chunks(run: Run) -> Generator[StrictChunk]:
    for delta in run.deltas():
        yield strict_chunk(run.head, delta)
    if run.request.stream_options.include_usage:
        yield strict_usage_chunk(run.head, run.usage)
