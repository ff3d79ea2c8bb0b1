"""The frames themselves, one a level: tokens, candidates, requests. Columns: `columns.py`."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import Any

import pandas as pd

from toolkit.analysis.frames.columns import typed
from toolkit.analysis.frames.read import sequences
from toolkit.analysis.frames.sequence import Candidate, Position, Sequence


def tokens(
    answers: Any, *, prompt_tokens: int | None = None, distribution: str = "raw"
) -> pd.DataFrame:
    """One row a token of each choice, prompts included where the answer scores them.

    `answers`: a completion, its JSON from any server, what `LM.score` returned, or a list of those.
    Two things that JSON may leave open: `prompt_tokens`, how many entries of each choice are the
    echoed prompt (`segment` is NA where it cannot be told); `distribution`, "sampled" for a server
    whose log-probabilities are those after temperature and truncation. Missing values are NA.

    Raises RunError for what is no answer.
    """
    read = sequences(answers, prompt_tokens=prompt_tokens, distribution=distribution)
    return token_frame(read)


def candidates(
    answers: Any, *, prompt_tokens: int | None = None, distribution: str = "raw"
) -> pd.DataFrame:
    """One row an alternative of each token, best first; the token itself is always among them.

    `dropped_by` is the transform that kept an alternative from being drawn, "none" for one that
    could be drawn, NA where the answer does not say (ask with `details=True`).
    """
    read = sequences(answers, prompt_tokens=prompt_tokens, distribution=distribution)
    return candidate_frame(read)


def token_frame(read: Iterable[Sequence]) -> pd.DataFrame:
    """`tokens` of what was read already."""
    return typed((row for sequence in read for row in _token_rows(sequence)), "tokens/1")


def candidate_frame(read: Iterable[Sequence]) -> pd.DataFrame:
    """`candidates` of what was read already."""
    return typed((row for sequence in read for row in _candidate_rows(sequence)), "candidates/1")


def request_frame(read: Iterable[Sequence]) -> pd.DataFrame:
    """`requests` of what was read already."""
    return typed((_request_row(sequence) for sequence in read), "requests/1")


def requests(answers: Any) -> pd.DataFrame:
    """One row a choice: parameters, text, counts, likelihood and times.

    What `best_of` turned down is there too, with `rejected` True. `logprob_sum`, `logprob_mean` (in
    nats) and `perplexity` are over the tokens of the completion, EOS included, and NA unless all
    have a log-probability.
    """
    return request_frame(sequences(answers, rejected=True))


def _token_rows(sequence: Sequence) -> Iterator[dict[str, Any]]:
    step = 0
    for index, position in enumerate(sequence.positions):
        completed = position.segment == "completion"
        yield {
            **sequence.keys,
            "position": index,
            "step": step if completed else None,
            **_token_row(position),
        }
        step += completed


def _token_row(position: Position) -> dict[str, Any]:
    chosen, best = position.chosen, position.best
    return {
        "segment": position.segment,
        "token_id": chosen.id,
        "token": chosen.token,
        "token_bytes": chosen.bytes,
        "text_start": position.text_start,
        "text_end": position.text_end,
        "logprob": chosen.logprob,
        "rank": chosen.rank,
        "entropy": position.entropy,
        "logprob_sampled": chosen.logprob_sampled,
        "entropy_sampled": position.entropy_sampled,
        "support": position.support,
        "kept_mass": position.kept_mass,
        "top_token_id": best.id if best else None,
        "top_logprob": best.logprob if best else None,
        "bias": position.bias,
        "penalty": position.penalty,
        "forced": None if position.support is None else position.support == 1,
        "special": position.special,
    }


def _candidate_rows(sequence: Sequence) -> Iterator[dict[str, Any]]:
    for index, position in enumerate(sequence.positions):
        listed = list(position.alternatives)
        marks = [position.is_chosen(item) for item in listed]
        if not any(marks):
            listed.append(position.chosen)
            marks.append(True)
        for item, chosen in zip(listed, marks, strict=True):
            row = {**sequence.keys, "position": index, "chosen": chosen, **_candidate_row(item)}
            if chosen and item.id is None:  # lists of alternatives often lack ids
                row["token_id"] = position.chosen.id
            yield row


def _candidate_row(item: Candidate) -> dict[str, Any]:
    return {
        "candidate_rank": item.rank,
        "token_id": item.id,
        "token": item.token,
        "token_bytes": item.bytes,
        "logprob": item.logprob,
        "logprob_sampled": item.logprob_sampled,
        "dropped_by": item.dropped_by,
    }


def _request_row(sequence: Sequence) -> dict[str, Any]:
    drawn = [p.chosen.logprob for p in sequence.positions if p.segment == "completion"]
    known = [value for value in drawn if value is not None]
    row = {**sequence.keys, **sequence.facts}
    row |= {f"param.{name}": value for name, value in sequence.parameters.items()}
    if known and len(known) == len(drawn):
        total = math.fsum(known)
        mean = total / len(known)
        row |= {"logprob_sum": total, "logprob_mean": mean, "perplexity": math.exp(-mean)}
    return row
