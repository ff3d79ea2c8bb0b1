"""Word sums, and the correction for leading whitespace against probabilities worked out by hand."""

from __future__ import annotations

import math

import pandas as pd
import pytest

from tests.analysis.answers import ours
from toolkit import frames


def entry(token: str, table: dict[str, float]) -> dict:
    """A content entry over the whole vocabulary."""
    best = sorted(table.items(), key=lambda item: -item[1])
    top = [{"token": t, "bytes": list(t.encode()), "logprob": math.log(p)} for t, p in best]
    value = math.log(table[token])
    return {"token": token, "bytes": list(token.encode()), "logprob": value, "top_logprobs": top}


def answer(*entries: dict) -> dict:
    text = "".join(item["token"] for item in entries)
    message = {"role": "assistant", "content": text}
    return {"choices": [{"index": 0, "message": message, "logprobs": {"content": list(entries)}}]}


WHOLE = answer(
    entry("go", {"go": 0.5, " up": 0.3, "es": 0.2}),
    entry(" up", {" up": 0.25, " on": 0.25, "es": 0.5}),
    entry("on", {"on": 0.5, " up": 0.3, "es": 0.2}),
    entry(" on", {" on": 0.8, "es": 0.2}),
)


def test_words_and_their_sums():
    frame = frames.words(WHOLE)
    assert list(frame["word"]) == ["go", "upon", "on"]
    assert list(frame["first_position"]) == [0, 1, 3]
    assert frame["logprob"].tolist() == pytest.approx(
        [math.log(0.5), math.log(0.25 * 0.5), math.log(0.8)]
    )
    assert frame["logprob"].sum() == pytest.approx(frames.tokens(WHOLE)["logprob"].sum())


def test_the_correction_is_exact_with_the_whole_vocabulary():
    frame = frames.words(WHOLE)
    # "go" ends with probability .25 + .25; " upon" then pays .5 less and ends with .8.
    expected = [math.log(0.5 * 0.5), math.log(0.25 * 0.5 * 0.8 / 0.5)]
    assert frame["logprob_corrected"].tolist()[:2] == pytest.approx(expected, rel=1e-6)
    assert frame["correction_error"].tolist()[:2] == pytest.approx([0, 0], abs=1e-6)
    assert pd.isna(frame["logprob_corrected"].iloc[2])  # nothing is known about what follows


def test_the_error_covers_what_is_not_listed():
    cut = answer(
        entry("go", {"go": 0.5}), entry(" up", {" up": 0.4, "es": 0.2}), entry(" x", {" x": 1.0})
    )
    row = frames.words(cut).iloc[0]
    # A word ends with .4 to .8: the middle is .6, and .4 is log(1.5) away from it.
    assert row["logprob_corrected"] == pytest.approx(math.log(0.5 * 0.6))
    assert row["correction_error"] == pytest.approx(math.log(1.5))


def test_the_end_of_the_text_ends_a_word():
    frame = frames.words(ours(), end_ids={256})
    assert list(frame["word"]) == ["hi", "a", "<eos>"]
    assert list(frame["segment"]) == ["prompt", "completion", "completion"]
    assert frame["logprob"].isna().tolist() == [True, False, False]
