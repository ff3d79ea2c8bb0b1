"""Frames of our own answers: columns, dtypes and exact values; parquet without loss."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import pandas as pd
import pytest

from tests.analysis.answers import CHAT, OPENAI, VLLM, ours
from toolkit import frames
from toolkit.analysis.frames.columns import PARAMETERS, SCHEMAS
from toolkit.completion.request import CompletionRequest
from toolkit.errors import InvalidRequest, RunError

MAKERS = {
    "tokens/1": frames.tokens,
    "candidates/1": frames.candidates,
    "words/1": frames.words,
    "requests/1": frames.requests,
}


@pytest.mark.parametrize("schema", MAKERS)
@pytest.mark.parametrize("answer", [ours(), OPENAI, VLLM, CHAT, []], ids=str)
def test_columns_and_dtypes_are_the_contract_whatever_the_answer(schema, answer):
    frame = MAKERS[schema](answer)
    assert frame.attrs["schema"] == schema
    assert list(frame.columns) == list(SCHEMAS[schema])
    for name, dtype in SCHEMAS[schema].items():
        assert frame[name].dtype == dtype, name


@pytest.mark.parametrize("schema", MAKERS)
def test_parquet_keeps_everything(schema, tmp_path: Path):
    frame = MAKERS[schema]([ours(), OPENAI])
    frame.to_parquet(tmp_path / "frame.parquet")
    back = pd.read_parquet(tmp_path / "frame.parquet")
    pd.testing.assert_frame_equal(back, frame)
    assert back.attrs == frame.attrs


def test_tokens_of_our_own_answer():
    frame = frames.tokens(ours())
    assert list(frame["token"]) == ["h", "i", "a", "<eos>"]
    assert list(frame["segment"]) == ["prompt", "prompt", "completion", "completion"]
    assert list(frame["step"][2:]) == [0, 1]
    assert frame["step"].isna().tolist() == [True, True, False, False]
    assert list(frame["text_start"]) == [0, 1, 2, 3]
    assert list(frame["text_end"]) == [1, 2, 3, 3]  # EOS is in no text
    row = frame.iloc[2]
    assert (row["logprob"], row["logprob_sampled"], row["rank"]) == (-1.5, -2.0, 3)
    assert (row["entropy"], row["entropy_sampled"], row["support"]) == (2.0, 1.0, 2)
    assert (row["kept_mass"], row["bias"], row["penalty"]) == (0.75, 0.5, 0.0)
    assert (row["top_token_id"], row["top_logprob"]) == (122, -0.5)
    assert not row["forced"] and frame["forced"].iloc[3]
    assert list(frame["special"]) == [False, False, False, True]


def test_missing_values_are_na_and_never_zero():
    first = frames.tokens(ours()).iloc[0]
    for name in ("logprob", "rank", "entropy", "logprob_sampled", "support", "top_logprob", "bias"):
        assert pd.isna(first[name]), name


def test_candidates_hold_the_token_itself_and_say_what_dropped_the_others():
    frame = frames.candidates(ours())
    rows = frame[frame["position"] == 2]
    assert list(rows["token"]) == ["z", "y", "a"]
    assert list(rows["chosen"]) == [False, False, True]
    assert list(rows["dropped_by"]) == ["none", "top_p", "none"]
    assert list(rows["candidate_rank"]) == [1, 2, 3]
    assert list(rows["logprob_sampled"]) == [-0.25, -math.inf, -2.0]


def test_requests_have_parameters_counts_and_likelihood():
    row = frames.requests(ours()).iloc[0]
    assert (row["param.temperature"], row["param.stop"], row["param.echo"]) == (
        0.5,
        '["\\n"]',
        True,
    )
    assert (row["prompt"], row["text"], row["finish_reason"]) == ("hi", "hia", "stop")
    assert (row["prompt_tokens"], row["completion_tokens"], row["seed"]) == (2, 2, 7)
    assert (row["logprob_sum"], row["logprob_mean"]) == (-1.75, -0.875)
    assert row["perplexity"] == pytest.approx(math.exp(0.875))
    assert (row["seconds"], row["ttft"], row["tokens_per_second"]) == (0.3, 0.2, 10.0)


def test_every_parameter_that_can_change_an_answer_has_a_column():
    fields = {field.name for field in dataclasses.fields(CompletionRequest)}
    elsewhere = {"dialect", "model", "prompt", "stream", "stream_options", "user", "details"}
    shape = {"return_token_ids", "return_tokens_as_token_ids"}
    assert set(PARAMETERS) == fields - elsewhere - shape


def test_metrics():
    frame = frames.add_metrics(frames.tokens(ours()))
    drawn = frame[frame["segment"] == "completion"]
    assert drawn["surprisal_bits"].iloc[0] == pytest.approx(1.5 / math.log(2))
    assert drawn["typicality"].iloc[0] == -0.5
    assert drawn["margin"].iloc[0] == -1.0
    assert list(drawn["cum_logprob"]) == [-1.5, -1.75]  # the prompt is counted apart
    assert drawn["ppl_so_far"].tolist() == pytest.approx([math.exp(1.5), math.exp(0.875)])
    assert frame["ppl_so_far"].iloc[1] == pytest.approx(math.exp(2.0))
    assert frame.iloc[0][["surprisal_bits", "margin", "cum_logprob", "ppl_so_far"]].isna().all()


def test_columns_of_the_request_join_the_tokens():
    answer = ours()
    tokens = frames.tokens(answer)
    frame = frames.add_requests(tokens, frames.requests(answer), "param.temperature")
    assert list(frame["param.temperature"]) == [0.5] * 4
    assert frame.attrs == tokens.attrs
    with pytest.raises(InvalidRequest, match=r"param\.heat"):
        frames.add_requests(tokens, frames.requests(answer), "param.heat")


@pytest.mark.parametrize("answer", [3, "text", {"text": "x"}, {"error": {"message": "no model"}}])
def test_what_is_no_answer_is_refused(answer):
    with pytest.raises(RunError):
        frames.tokens(answer)


def test_an_error_of_a_server_keeps_its_words():
    with pytest.raises(RunError, match="no model"):
        frames.tokens({"error": {"message": "no model"}})
