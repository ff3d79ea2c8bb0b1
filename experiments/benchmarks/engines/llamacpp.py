"""llama-cpp-python on GGUF files, through its token generator: no text is made.

Threads are given for decoding and for prompts; flash attention, the cache's type (float16) and the
batch sizes are its defaults. Its own log-probabilities sort the vocabulary in Python; here they are
taken from its logits with NumPy, which is many times faster.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import math
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any
from unittest import mock

import llama_cpp
import numpy as np
from llama_cpp import Llama

from experiments.benchmarks.engines.peak import peak

GREEDY = {"temp": 0.0, "repeat_penalty": 1.0}
PLAIN = ", weights as they are"
"""llama.cpp re-packs quantised weights for the processor's matrix unit. Where a sandbox does not
let processes use that unit they crash, and the weights have to stay as they are in the file."""
PROBE = """
import sys
from llama_cpp import Llama
llama = Llama(sys.argv[1], n_ctx=64, n_threads=int(sys.argv[2]), verbose=False)
next(llama.generate([1, 2, 3, 4], temp=0.0))
"""


class Engine:
    """Models that are loaded when they are first asked for, by the format of the file."""

    def __init__(self, *, folder: str, gguf: dict[str, str], threads: int, context: int):
        self.files, self.threads, self.context = gguf, threads, context

    def about(self) -> dict[str, Any]:
        """The ways to run it."""
        return {"variants": [self._named(form) for form in self.files]}

    def _named(self, form: str) -> str:
        """A format, and whether its weights can be re-packed here."""
        return f"{form} GGUF" + ("" if form == "F32" or self._repacks(form) else PLAIN)

    def _repacks(self, form: str) -> bool:
        """Whether a process that re-packs the weights lives to see a token."""
        command = [sys.executable, "-c", PROBE, self.files[form], str(self.threads)]
        return subprocess.run(command, capture_output=True, check=False).returncode == 0

    @functools.cache  # noqa: B019  # the engine lives as long as its process
    def _model(self, variant: str, every: bool = False) -> Llama:
        """The model of a variant; `every` keeps the logits of all tokens."""
        with _plain_weights() if variant.endswith(PLAIN) else contextlib.nullcontext():
            return Llama(
                self.files[variant.split()[0]],
                n_ctx=self.context,
                n_threads=self.threads,
                n_threads_batch=self.threads,
                logits_all=every,
                verbose=False,
            )

    def decode(self, ids: list[int], count: int, variant: str) -> dict[str, Any]:
        """Greedy tokens, seconds to the first, seconds in all. The prompt is computed anew."""
        llama = self._model(variant)
        llama.reset()
        began = time.perf_counter()
        drawn = llama.generate(ids, **GREEDY)
        tokens = [next(drawn)]
        first = time.perf_counter()
        tokens += itertools.islice(drawn, count - 1)
        ended = time.perf_counter()
        return {
            "tokens": tokens,
            "form": variant.split()[0],
            "made": len(tokens),
            "first": first - began,
            "seconds": ended - began,
        }

    def sample(
        self, ids: list[int], n: int, count: int, variant: str, logprobs: int, **asked: Any
    ) -> dict[str, Any]:
        """n samples of one prompt, one after another; the prompt is computed once."""
        llama = self._model(variant)
        llama.reset()
        began, made = time.perf_counter(), 0
        for _ in range(n):
            drawn = llama.generate(ids, repeat_penalty=1.0, min_p=0.0, **_names(asked))
            for token in itertools.islice(drawn, count):
                _known(self._logits(llama), token, logprobs)
                made += 1
        return {"made": made, "seconds": time.perf_counter() - began}

    def score(self, prompts: list[list[int]], variant: str) -> dict[str, Any]:
        """The log-probability of each prompt after its first token, one prompt after another."""
        llama = self._model(variant, every=True)
        began, sums = time.perf_counter(), []
        with peak() as growth:
            for ids in prompts:
                llama.reset()
                llama.eval(ids)
                logits = llama.scores[: len(ids) - 1]
                largest = logits.max(axis=1, keepdims=True)
                whole = np.log(np.exp(logits - largest).sum(axis=1)) + largest[:, 0]
                sums.append(float((logits[np.arange(len(ids) - 1), ids[1:]] - whole).sum()))
            memory = growth()
        seconds = time.perf_counter() - began
        return {"made": len(sums), "logprobs": sums, "seconds": seconds, "memory": memory}

    def sweep(
        self, ids: list[int], count: int, asked: list[dict[str, Any]], variant: str
    ) -> dict[str, Any]:
        """One prompt under several settings, one after another; the prompt is computed once."""
        llama = self._model(variant)
        llama.reset()
        began, made = time.perf_counter(), 0
        for one in asked:
            drawn = llama.generate(ids, **{"min_p": 0.0, "repeat_penalty": 1.0} | _names(one))
            made += len(list(itertools.islice(drawn, count)))
        return {"made": made, "seconds": time.perf_counter() - began}

    def requests(self, requests: list[list[Any]], variant: str) -> dict[str, Any]:
        """Requests `[ids, count]`, one after another."""
        llama = self._model(variant)
        began, made = time.perf_counter(), 0
        for ids, count in requests:
            llama.reset()
            made += len(list(itertools.islice(llama.generate(ids, **GREEDY), count)))
        return {"made": made, "seconds": time.perf_counter() - began}

    def _logits(self, llama: Llama) -> np.ndarray:
        """Of the token that was evaluated last: the library's own memory, not a copy."""
        return np.ctypeslib.as_array(llama._ctx.get_logits(), shape=(llama._n_vocab,))


@contextlib.contextmanager
def _plain_weights() -> Iterator[None]:
    """Models loaded meanwhile do not re-pack: the library has no argument for it."""
    default = llama_cpp.llama_model_default_params

    def plain() -> Any:
        parameters = default()
        parameters.use_extra_bufts = False
        return parameters

    with mock.patch.object(llama_cpp.llama_cpp, "llama_model_default_params", plain):
        with mock.patch.object(llama_cpp, "llama_model_default_params", plain):
            yield


def _names(asked: dict[str, Any]) -> dict[str, Any]:
    """The toolkit's names in llama-cpp-python's terms."""
    known = {"top_k": 0, "top_p": 1.0} | asked
    renamed = {"temperature": "temp", "repetition_penalty": "repeat_penalty"}
    known.pop("seed", None)
    return {renamed.get(name, name): value for name, value in known.items()}


def _known(logits: np.ndarray, token: int, count: int) -> tuple[float, list[float]]:
    """Log-probability of the token and of the best ones."""
    largest = float(logits.max())
    whole = largest + math.log(float(np.exp(logits - largest).sum()))
    best = np.argpartition(logits, -count)[-count:]
    return float(logits[token]) - whole, (np.sort(logits[best])[::-1] - whole).tolist()
