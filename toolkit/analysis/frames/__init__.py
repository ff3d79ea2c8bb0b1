"""Answers as pandas frames. Dict in, frame out: nothing here knows an engine.

    from toolkit import frames

    df = frames.add_metrics(frames.tokens(answer))

columns.py    the contract: columns, dtypes, schemas
sequence.py   what every answer is read into
record.py     our records
foreign.py    JSON of any server, with pieces.py for its tokens
read.py       which of the two an answer is
levels.py     tokens, candidates, requests
words.py      words, with the correction for leading whitespace
metrics.py    columns that follow from others
outcomes.py   how often each completion came, and should come
"""

from __future__ import annotations

from toolkit.analysis.frames.columns import SCHEMAS
from toolkit.analysis.frames.levels import candidates, requests, tokens
from toolkit.analysis.frames.metrics import add_metrics, add_requests
from toolkit.analysis.frames.outcomes import chi_square, outcomes
from toolkit.analysis.frames.words import words

__all__ = [
    "SCHEMAS",
    "add_metrics",
    "add_requests",
    "candidates",
    "chi_square",
    "outcomes",
    "requests",
    "tokens",
    "words",
]
