"""What follows from the columns of a token frame, as further columns."""

from __future__ import annotations

import numpy as np
import pandas as pd

from toolkit.errors import InvalidRequest

BITS = 1 / np.log(2)
"""Bits in a nat."""
SEQUENCE = ["request_id", "prompt_index", "choice_index"]
"""Rows that agree in these columns are one text."""


def add_metrics(frame: pd.DataFrame) -> pd.DataFrame:
    """A copy of a token frame with five more columns; NA where what they follow from is.

    `surprisal_bits`: -logprob in bits. `typicality`: surprisal minus entropy, in nats, 0 for a
    token as surprising as the model expected (Meister et al. 2022). `margin`: logprob minus that of
    the model's best token, 0 or less. `cum_logprob` and `ppl_so_far`: sum, and exp of minus the
    mean, from the first row of a segment to this one; prompt and completion are counted apart.
    """
    need(frame, "logprob", "entropy", "top_logprob", "segment")
    frame = frame.copy()
    logprob = frame["logprob"]
    frame["surprisal_bits"] = (-logprob * BITS).astype("float32")
    frame["typicality"] = (-logprob - frame["entropy"]).astype("float32")
    frame["margin"] = (logprob - frame["top_logprob"]).astype("float32")
    groups = logprob.astype("float64").groupby(
        [frame[name] for name in [*SEQUENCE, "segment"]], dropna=False, observed=True, sort=False
    )
    frame["cum_logprob"] = groups.cumsum()
    counts = logprob.notna().groupby(groups.ngroup()).cumsum()
    frame["ppl_so_far"] = np.exp(-frame["cum_logprob"] / counts)
    return frame


def add_requests(frame: pd.DataFrame, requests: pd.DataFrame, *columns: str) -> pd.DataFrame:
    """A copy of a frame with columns of the request that each row belongs to.

    `requests`: the frame of that name. `columns`: such as "param.temperature"; all parameters if
    none are named. Raises InvalidRequest for a column that there is not.
    """
    names = list(columns) or [name for name in requests.columns if name.startswith("param.")]
    need(requests, *SEQUENCE, *names)
    joined = frame.merge(requests[[*SEQUENCE, *names]], on=SEQUENCE, how="left", validate="m:1")
    joined.attrs = dict(frame.attrs)
    return joined


def need(frame: pd.DataFrame, *columns: str) -> None:
    """Raise InvalidRequest, naming them, if a frame lacks columns."""
    missing = [name for name in columns if name not in frame.columns]
    if missing:
        raise InvalidRequest(
            f"`frame` lacks {', '.join(missing)}. Pass what `toolkit.frames` makes.", param="frame"
        )
