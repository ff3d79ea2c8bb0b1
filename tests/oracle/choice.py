"""One whole choice of a completion as the contract describes it: draw, end, cut. For tests only.

Where the contract is silent: a stop id leaves no text unless `include_stop`, and end-of-text never
leaves any; `min_tokens` holds back ids, not stop strings; an ignored end-of-text id is an ordinary
token, but still ends a guided choice; the U+FFFD that the end of a text makes of unfinished bytes
is not searched for stops; the text of a choice that generated no bytes is empty.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np

from tests.oracle.guide import Guide
from tests.oracle.sampler import Distribution, distribution, draw
from tests.oracle.text import final_text, find_stop, partial_text
from tests.oracle.uniforms import uniforms
from toolkit.sampling.params import SamplingParams


@dataclasses.dataclass(frozen=True, kw_only=True)
class Step:
    """One drawn token and the distribution that it came from."""

    token: int
    distribution: Distribution
    u_block: float
    u_token: float
    margin: float
    """Of the draw and of every decision before it."""

    @property
    def logprob(self) -> float:
        """Raw, nats."""
        return float(self.distribution.raw_logprobs[self.token])

    @property
    def sampling_logprob(self) -> float:
        """Of the distribution that was drawn from, nats."""
        return float(self.distribution.sampling_logprobs[self.token])

    @property
    def certain(self) -> bool:
        """Whether float32 arithmetic must draw the same token."""
        return self.margin > self.distribution.noise


@dataclasses.dataclass(frozen=True, kw_only=True)
class Choice:
    """Tokens (with the one that ended it), text, and why it ended."""

    tokens: list[int]
    text: str
    finish_reason: str
    stop_reason: str | None
    steps: list[Step]

    @property
    def certain(self) -> bool:
        """Whether float32 arithmetic must draw the same tokens throughout."""
        return all(step.certain for step in self.steps)

    @property
    def mean_logprob(self) -> float:
        """What `best_of` ranks by: the mean raw logprob of all sampled tokens, 0 for none."""
        return float(np.mean([step.logprob for step in self.steps])) if self.steps else 0.0


def generate(
    next_logits: Callable[[Sequence[int]], np.ndarray],
    prompt_ids: Sequence[int],
    params: SamplingParams,
    *,
    max_tokens: int,
    vocabulary: Sequence[bytes],
    eos_ids: Sequence[int] = (),
    stops: Sequence[str] = (),
    guide: Guide | None = None,
    ignore_eos: bool = False,
    include_stop: bool = False,
    before: bytes = b"",
) -> Choice:
    """Generate one choice; `next_logits(ids)` gives the raw logits `[V]` after `ids`.

    `params.stop_ids` end it like `eos_ids`. `before` are the unfinished bytes at the end of a token
    prompt. Raises `ValueError` where the contract refuses: a stop inside a guided choice.
    """
    _refuse_stops_inside_choices(guide, stops, params.stop_ids, vocabulary)
    ends = set(params.stop_ids) | (set() if ignore_eos and guide is None else set(eos_ids))
    params = dataclasses.replace(params, stop_ids=tuple(sorted(ends)))
    tokens: list[int] = []
    steps: list[Step] = []
    data = b""

    def ended(text: str, finish_reason: str, stop_reason: str | None = None) -> Choice:
        return Choice(
            tokens=tokens,
            text=text,
            finish_reason=finish_reason,
            stop_reason=stop_reason,
            steps=steps,
        )

    while len(tokens) < max_tokens:
        allowed = None if guide is None else guide.allowed(data)
        logits = next_logits([*prompt_ids, *tokens])
        steps.append(
            sample(logits, params, prompt_ids=prompt_ids, generated_ids=tokens, allowed_ids=allowed)
        )
        token = steps[-1].token
        tokens.append(token)
        if token in ends:
            shown = include_stop and token not in eos_ids
            return ended(_final(before, data + (vocabulary[token] if shown else b"")), "stop")
        data += vocabulary[token]
        text = partial_text(before + data)
        if cut := find_stop(text, stops):
            return ended(text[: cut.end if include_stop else cut.start], "stop", cut.stop)
        if guide is not None and guide.finished(data):
            return ended(_final(before, data), "stop")
    return ended(_final(before, data), "length")


def sample(
    logits: np.ndarray,
    params: SamplingParams,
    *,
    prompt_ids: Sequence[int],
    generated_ids: Sequence[int],
    allowed_ids: Sequence[int] | None = None,
) -> Step:
    """Draw the token at position `len(generated_ids)` with the uniforms that belong to it."""
    d = distribution(
        logits, params, generated_ids=generated_ids, prompt_ids=prompt_ids, allowed_ids=allowed_ids
    )
    u_block, u_token = uniforms(params.seed, params.choice, len(generated_ids))
    token, margin = draw(d.probabilities, u_block, u_token)
    return Step(
        token=token, distribution=d, u_block=u_block, u_token=u_token, margin=min(margin, d.margin)
    )


def best(candidates: Sequence[Choice], n: int) -> list[int]:
    """Numbers of the n best by mean raw logprob, best first; equals in order of number."""
    return sorted(range(len(candidates)), key=lambda number: -candidates[number].mean_logprob)[:n]


def _final(before: bytes, data: bytes) -> str:
    return final_text(before + data) if data else ""


def _refuse_stops_inside_choices(
    guide: Guide | None, stops: Sequence[str], stop_ids: Sequence[int], vocabulary: Sequence[bytes]
) -> None:
    if guide is None:
        return
    pieces = [stop.encode() for stop in stops] + [
        vocabulary[i] for i in stop_ids if i not in guide.eos_ids
    ]
    if any(piece and piece in choice for piece in pieces for choice in guide.choices):
        raise ValueError("A stop stands inside a guided choice.")
