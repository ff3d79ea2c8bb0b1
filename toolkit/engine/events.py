"""From a block's arrays to the events of one row."""

from __future__ import annotations

import operator
from typing import Any

import jax

from toolkit.engine.job import TokenEvent
from toolkit.sampling.params import Report


def events_of(drawn: Any, row: int, report: Report) -> list[TokenEvent]:
    """A row's tokens out of a block's arrays, which are NumPy's by now."""
    mine = jax.tree.map(lambda x: x[:, row], drawn)
    return [
        _event(jax.tree.map(operator.itemgetter(k), mine), report) for k in range(len(mine.token))
    ]


def _event(d: Any, report: Report) -> TokenEvent:
    details = {}
    if report.details:
        details = {
            "rank": int(d.scored.rank),
            "entropy": float(d.scored.entropy),
            "sampling_entropy": float(d.sampling_entropy),
            "support": int(d.support),
            "kept_mass": float(d.kept_mass),
            "bias": float(d.bias),
            "penalty": float(d.penalty),
        }
    top = slice(report.top)
    return TokenEvent(
        id=int(d.token),
        logprob=float(d.scored.logprob),
        sampling_logprob=float(d.sampling_logprob),
        top_ids=d.scored.top_ids[top],
        top_logprobs=d.scored.top_logprobs[top],
        top_sampling_logprobs=d.top_sampling_logprobs[top],
        top_dropped=d.dropped[top],
        **details,
    )
