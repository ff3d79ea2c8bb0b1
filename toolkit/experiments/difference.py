"""Two answers to one request: equal bit for bit, equal in tokens, or where they part."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

from toolkit.experiments import tables

Side = tuple[Mapping[str, Any], Mapping[str, Any]]
"""What was asked, and what came: lines of requests.jsonl and responses.jsonl."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Difference:
    """How the second answer differs from the first; of several choices, in the first that does."""

    cell_id: str
    verdict: str
    """"bitwise", "same tokens", "same text" (where an answer has no tokens), "diverged" or
    "failed"."""
    largest: float | None = None
    """Of all log-probabilities of tokens that both have, the largest difference, in nats."""
    choice_index: int | None = None
    step: int | None = None
    """The first generated token that is another one."""
    before: str | None = None
    """The token that the first answer has there; "" where it had ended."""
    now: str | None = None
    p_before: float | None = None
    """Its probability under the model, as the first answer says."""
    p_now: float | None = None
    gap: float | None = None
    """Between the two probabilities: near 0 is a tie that rounding decides."""
    message: str | None = None
    """What was said where it failed."""

    def __str__(self) -> str:
        if self.verdict == "failed":
            return f"failed: {self.message}"
        if self.verdict == "same tokens":
            return f"same tokens, largest difference of a logprob {self.largest or 0.0:.1e}"
        if self.verdict != "diverged" or self.step is None:
            return self.verdict
        place = f"diverged at step {self.step} of choice {self.choice_index}"
        if self.p_before is None or self.p_now is None or self.gap is None:
            return f"{place}: {self.before!r}, now {self.now!r}"
        return (
            f"{place}: p({self.before!r}) = {self.p_before:.4f}, "
            f"p({self.now!r}) = {self.p_now:.4f}, gap {self.gap:.4f}"
        )


def difference(cell: str, first: Side, second: Side) -> Difference:
    """Compare two answers. `cell`: the name to give the result."""
    if "error" in second[1]:
        message = second[1]["error"]["message"]
        return Difference(cell_id=cell, verdict="failed", message=message)
    if "record" in first[1] and "record" in second[1]:
        a, b = tables.record_of(*first), tables.record_of(*second)
        if (a.choices, a.rejected, a.prompts) == (b.choices, b.rejected, b.prompts):
            return Difference(cell_id=cell, verdict="bitwise", largest=0.0)
        return _tokens(cell, a, b, exact=False)
    return _tokens(cell, _answer(*first), _answer(*second), exact=True)


def _answer(line: Mapping[str, Any], reply: Mapping[str, Any]) -> Any:
    return tables.record_of(line, reply) if "record" in reply else reply["body"]


def _tokens(cell: str, first: Any, second: Any, *, exact: bool) -> Difference:
    """`exact`: answers that are equal in all that JSON tells are "bitwise" equal."""
    from toolkit.analysis.frames.read import sequences

    ours, theirs = sequences(first), sequences(second)
    if len(ours) != len(theirs):
        return Difference(cell_id=cell, verdict="diverged")
    largest = 0.0
    for a, b in zip(ours, theirs, strict=True):
        if not (a.positions and b.positions):
            if a.facts.get("text") != b.facts.get("text"):
                return Difference(cell_id=cell, verdict="diverged", choice_index=a.choice_index)
            continue
        parting = _parting(a, b)
        if parting is not None:
            return dataclasses.replace(_diverged(cell, a, b, parting), largest=largest)
        largest = max(largest, _largest(a, b))
    if not all(s.positions for s in ours):
        return Difference(cell_id=cell, verdict="same text")
    same = exact and [s.positions for s in ours] == [s.positions for s in theirs]
    return Difference(cell_id=cell, verdict="bitwise" if same else "same tokens", largest=largest)


def _parting(a: Any, b: Any) -> int | None:
    """The first position at which two choices have another token, or one has none."""
    for index, (one, other) in enumerate(zip(a.positions, b.positions, strict=False)):
        if not _equal(one.chosen, other.chosen):
            return index
    short = min(len(a.positions), len(b.positions))
    return None if len(a.positions) == len(b.positions) else short


def _equal(one: Any, other: Any) -> bool:
    if one.id is not None and other.id is not None:
        return one.id == other.id
    return one.token == other.token


def _largest(a: Any, b: Any) -> float:
    values = [
        abs(one.chosen.logprob - other.chosen.logprob)
        for one, other in zip(a.positions, b.positions, strict=True)
        if one.chosen.logprob is not None and other.chosen.logprob is not None
    ]
    return max(values, default=0.0)


def _diverged(cell: str, a: Any, b: Any, index: int) -> Difference:
    prompt = sum(position.segment == "prompt" for position in a.positions[:index])
    one, other = (s.positions[index].chosen if index < len(s.positions) else None for s in (a, b))
    p, q = _probability(one), _probability(other)
    return Difference(
        cell_id=cell,
        verdict="diverged",
        choice_index=a.choice_index,
        step=index - prompt,
        before=one.token if one else "",
        now=other.token if other else "",
        p_before=p,
        p_now=q,
        gap=None if p is None or q is None else abs(p - q),
    )


def _probability(item: Any) -> float | None:
    return None if item is None or item.logprob is None else math.exp(item.logprob)
