"""How often each completion came, against the probability with which it should come."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pandas as pd

from toolkit.analysis.frames.metrics import need
from toolkit.errors import InvalidRequest

SMALLEST = 5.0
"""Expected count below which outcomes are pooled, the usual rule for the chi-square test."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class ChiSquare:
    """Pearson's test of counts against probabilities."""

    statistic: float
    degrees: int
    p_value: float
    """Of so large a statistic if the probabilities are right; 1.0 where one cell is left."""


def outcomes(tokens: pd.DataFrame) -> pd.DataFrame:
    """One row a different completion of one prompt, most frequent first.

    `count` and `share`: how often it came; `expected`: the probability with which it is drawn, the
    product of its tokens' sampling probabilities; `model`: the product of the model's own. A text
    with two tokenisations is two outcomes, which `spelling` tells apart: "New|York". `tokens`: the
    frame of a prompt's samples, whole ones (all ended by "stop") or prefixes of equal length.

    Raises InvalidRequest where the frame holds several prompts or lacks what was drawn with.
    """
    need(tokens, "token_id", "logprob", "logprob_sampled", "segment", "choice_index")
    rows = tokens.loc[tokens["segment"] == "completion"]
    if rows.empty or rows["logprob_sampled"].isna().any() or rows["token_id"].isna().any():
        raise InvalidRequest(
            "`tokens` has no sampling log-probabilities. Pass completions of this package.",
            param="tokens",
        )
    if rows["prompt_index"].nunique(dropna=False) > 1:
        raise InvalidRequest("`tokens` has several prompts. Select one.", param="tokens")
    keys = ["request_id", "choice_index"]
    samples = pd.DataFrame(
        {
            "ids": rows.groupby(keys, dropna=False)["token_id"].agg(tuple),
            "text": rows.groupby(keys, dropna=False)["token"].agg("".join),
            "spelling": rows.groupby(keys, dropna=False)["token"].agg("|".join),
            "expected": np.exp(_summed(rows, keys, "logprob_sampled")),
            "model": np.exp(_summed(rows, keys, "logprob")),
        }
    )
    found = samples.groupby("ids", sort=False).agg(
        text=("text", "first"),
        spelling=("spelling", "first"),
        count=("text", "size"),
        expected=("expected", "first"),
        model=("model", "first"),
    )
    found.insert(3, "share", found["count"] / len(samples))
    return found.sort_values("count", ascending=False, kind="stable").reset_index(drop=True)


def _summed(rows: pd.DataFrame, keys: list[str], column: str) -> pd.Series:
    values = rows.loc[:, [*keys, column]].astype({column: "float64"})
    return values.groupby(keys, dropna=False).agg({column: "sum"}).loc[:, column]


def chi_square(frame: pd.DataFrame) -> ChiSquare:
    """Pearson's test of an `outcomes` frame. What never came counts with what came, in one cell
    with all outcomes whose expected count is under 5."""
    need(frame, "count", "expected")
    from scipy.stats import chi2

    count = frame["count"].to_numpy(dtype="float64")
    total = count.sum()
    expected = frame["expected"].to_numpy(dtype="float64") * total
    large = expected >= SMALLEST
    cells = [*zip(count[large], expected[large], strict=True)]
    rest = max(0.0, total - math.fsum(expected[large]))
    if rest >= SMALLEST or not cells:
        cells.append((count[~large].sum(), rest))
    elif rest > 0:  # too little for a cell of its own: the smallest takes it in
        least = min(range(len(cells)), key=lambda i: cells[i][1])
        cells[least] = cells[least][0] + count[~large].sum(), cells[least][1] + rest
    statistic = math.fsum((seen - want) ** 2 / want for seen, want in cells)
    degrees = len(cells) - 1
    p_value = float(chi2.sf(statistic, degrees)) if degrees else 1.0
    return ChiSquare(statistic=statistic, degrees=degrees, p_value=p_value)
