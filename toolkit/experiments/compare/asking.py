"""Asking two targets the same: tokenisation, greedy text, scores, samples, speed."""

from __future__ import annotations

import itertools
import math
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import numpy as np

from toolkit.errors import InvalidRequest, TargetError
from toolkit.experiments.compare.evidence import Greedy, Sampled, Timing, Tokenised
from toolkit.experiments.forcing import TOP
from toolkit.experiments.reading import Choice, Token, choices, usage
from toolkit.experiments.statistics import count_test, kernel_test
from toolkit.experiments.target import Answer, Streaming, Target

WORKERS = 8
"""Requests at a time to one target."""


class Asker:
    """One side of a comparison: a target, and what this side asks in addition."""

    def __init__(self, target: Target, parameters: Mapping[str, Any]):
        self.target = target
        self.parameters = dict(parameters)
        self.strict = getattr(target, "dialect", "") == "strict"
        self._with_ids = not self.strict
        self._at_once = 128

    def tokenize(self, text: str) -> list[int] | None:
        """The ids of a text, if the target tells."""
        try:
            return self.target.tokenize(text)
        except (InvalidRequest, TargetError):
            return None

    def greedy(self, prompt: Any, length: int) -> Answer:
        """The greedy completion with alternatives, and ids where they can be had."""
        fields = {
            **_extra(self.parameters),
            "prompt": prompt,
            "temperature": 0,
            "max_tokens": length,
            "logprobs": True if self.strict else TOP,
        }
        if self._with_ids:
            try:
                return self.target.complete({**fields, "return_token_ids": True})
            except (InvalidRequest, TargetError) as error:
                if _unreachable(error):
                    raise
                self._with_ids = False
        return self.target.complete(fields)

    def samples(
        self, prompt: str, count: int, length: int, fields: Mapping[str, Any], seed: int
    ) -> list[Choice]:
        """Completions drawn apart, several with one request where the target gives several."""
        drawn: list[Choice] = []
        while len(drawn) < count:
            asked = {
                **fields,
                "prompt": prompt,
                "max_tokens": length,
                "n": min(self._at_once, count - len(drawn)),
                "seed": (seed + 7919 * len(drawn)) % 2**31,
                "logprobs": True if self.strict else 1,
            }
            try:
                found = choices(self.target.complete(asked))
            except (InvalidRequest, TargetError) as error:
                if self._at_once == 1 or _unreachable(error):
                    raise
                self._at_once = 1
                continue
            drawn += found
            self._at_once = min(self._at_once, max(1, len(found)))
        return drawn[:count]


def _unreachable(error: Exception) -> bool:
    return isinstance(error, TargetError) and error.code is None


def _extra(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Parameters that mean something for greedy decoding too."""
    return {
        name: value
        for name, value in parameters.items()
        if name
        not in ("temperature", "top_p", "top_k", "min_p", "typical_p", "n", "seed", "best_of")
    }


def tokenised(a: Asker, b: Asker, prompts: Sequence[str]) -> Iterator[Tokenised]:
    """Each prompt as both tokenise it."""
    for prompt in prompts:
        yield Tokenised(prompt=prompt, ids_a=a.tokenize(prompt), ids_b=b.tokenize(prompt))


def greedy(index: int, one: Answer, other: Answer) -> Greedy:
    """Where two greedy completions part, and by how much A preferred its own token there."""
    a, b = choices(one)[0], choices(other)[0]
    same = sum(
        1
        for _ in itertools.takewhile(
            lambda p: _equal(*p), zip(a.completion, b.completion, strict=False)
        )
    )
    split = same < min(len(a.completion), len(b.completion))
    gap = _gap(a.completion[same], b.completion[same]) if split else math.nan
    return Greedy(
        prompt_index=index,
        agreed=same if a.completion and b.completion else _common(a.text, b.text),
        length_a=len(a.completion) or len(a.text),
        length_b=len(b.completion) or len(b.text),
        same=a.text == b.text and not split,
        gap=gap,
        text_a=a.text,
        text_b=b.text,
    )


def _equal(a: Token, b: Token) -> bool:
    return a.id == b.id if a.id is not None and b.id is not None else a.data == b.data


def _gap(a: Token, b: Token) -> float:
    mine, other = a.logprob, a.top.get(b.data)
    return math.nan if mine is None or other is None else mine - other


def _common(a: str, b: str) -> int:
    return sum(1 for _ in itertools.takewhile(lambda p: p[0] == p[1], zip(a, b, strict=False)))


def completion_ids(answer: Answer) -> list[int] | None:
    """The ids of a greedy completion; None where the answer does not tell all of them."""
    ids = [token.id for token in choices(answer)[0].completion]
    return None if None in ids or not ids else [i for i in ids if i is not None]


def used(answer: Answer) -> int | None:
    """Tokens of the prompt that the model read."""
    return usage(answer, "prompt_tokens")


def sampled(
    setting: str,
    a: Asker,
    b: Asker,
    prompts: Sequence[str],
    *,
    fields: tuple[Mapping[str, Any], Mapping[str, Any]],
    count: int,
    length: int,
    rng: np.random.Generator,
) -> Sampled:
    """Draw completions of each prompt from both and test them.

    Each side has seeds of its own: with common ones, two servers that honour them alike would give
    equal samples, which is no sample of two.
    """
    drawn = []
    for side, asked in zip((a, b), fields, strict=True):
        seeds = [int(seed) for seed in rng.integers(2**31, size=len(prompts))]

        def draw(item: tuple[str, int], side: Asker = side, asked: Any = asked) -> list[Choice]:
            return side.samples(item[0], count, length, asked, item[1])

        drawn.append(together(draw, list(zip(prompts, seeds, strict=True))))
    texts = [
        tuple(tuple(c.text for c in group) for group in pair) for pair in zip(*drawn, strict=True)
    ]
    firsts = [
        [[first_token(c) for c in group] for group in pair] for pair in zip(*drawn, strict=True)
    ]
    return Sampled(
        setting=setting,
        fields_a=dict(fields[0]),
        fields_b=dict(fields[1]),
        texts=tuple((x, y) for x, y in texts),
        kernel=kernel_test([(x, y) for x, y in texts], rng),
        counts=tuple(count_test(x, y, rng) for x, y in firsts),
    )


T = TypeVar("T")
R = TypeVar("R")


def together(ask: Callable[[T], R], items: Sequence[T]) -> list[R]:
    """Ask several things at the same time, so that an engine can batch them; answers in order."""
    if len(items) < 2:
        return [ask(item) for item in items]
    with ThreadPoolExecutor(WORKERS, thread_name_prefix="toolkit-compare") as pool:
        return list(pool.map(ask, items))


def first_token(choice: Choice) -> str:
    """The first token of a completion; of one without tokens, its first word with the space in
    front."""
    if choice.completion:
        return choice.completion[0].data.decode(errors="backslashreplace")
    body = choice.text.lstrip()
    lead = choice.text[: len(choice.text) - len(body)]
    return lead + body.split(" ")[0][:12]


def timing(side: Asker, prompts: Sequence[str], length: int) -> Timing:
    """Time greedy answers, one at a time."""
    first, rate, seconds = [], [], []
    for prompt in prompts:
        fields = {"prompt": prompt, "temperature": 0, "max_tokens": length}
        began = time.perf_counter()
        if isinstance(side.target, Streaming):
            events = side.target.stream({**fields, "stream_options": {"include_usage": True}})
            made = [e["usage"]["completion_tokens"] for e in events.chunks if e.get("usage")]
            seconds.append(events.seconds)
            if events.first_token is not None:
                first.append(events.first_token)
                if made and made[-1] > 1 and events.seconds > events.first_token:
                    rate.append((made[-1] - 1) / (events.seconds - events.first_token))
        else:
            side.target.complete(fields)
            seconds.append(time.perf_counter() - began)
    return Timing(
        first_token=statistics.median(first) if first else None,
        tokens_per_second=statistics.median(rate) if rate else None,
        seconds=statistics.median(seconds),
    )


def tokens_of(answer: Answer) -> list[Token]:
    """The tokens of a completion."""
    return choices(answer)[0].completion


def text_of(answer: Answer) -> str:
    """The text of a completion."""
    return choices(answer)[0].text
