"""Whole answers against the oracle: the same tokens, logprobs, text, offsets and ends."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.contract.strategies import asked
from tests.contract.surfaces import L, record_of
from tests.contract.toys import EOS, VOCABULARY
from tests.oracle import text as oracle
from tests.oracle.choice import Choice, generate
from tests.oracle.guide import Guide
from tests.oracle.sampler import NothingToDraw
from tests.oracle.toy import MarkovModel
from toolkit.completion.complete import LM
from toolkit.completion.record import ChoiceRecord, CompletionRecord
from toolkit.completion.request import sampling_params

pytestmark = pytest.mark.filterwarnings("ignore:Do not use the `random` module inside strategies")
"""Not the strategies do: beartype does, in the engine's thread, while the next example is drawn."""

EXTENSIONS = st.fixed_dictionaries(
    {
        "top_k": st.sampled_from([0, 0, 0, 3, 40]),
        "min_p": st.sampled_from([0, 0, 0.1]),
        "typical_p": st.sampled_from([1, 1, 0.8]),
        "presence_penalty": st.sampled_from([0, 0, 1.5]),
        "repetition_penalty": st.sampled_from([1, 1, 1.3]),
        "min_tokens": st.sampled_from([0, 0, 2]),
    }
)
SPELLINGS = [
    b"" if token in VOCABULARY.specials.values() else data
    for token, data in enumerate(VOCABULARY.tokens)
]
"""A guide never draws a special token, whatever it reads like."""


@given(asked(), EXTENSIONS)
@settings(max_examples=80)
def test_answers_are_those_of_the_oracle(
    toy: LM, model: MarkovModel, fields: dict[str, Any], more: dict[str, Any]
):
    more["min_tokens"] = min(more["min_tokens"], fields["max_tokens"])
    record = record_of(toy, dialect=L, **fields, **more)
    for choice in record.choices:
        check_places(record, choice)
        try:
            expected = by_oracle(model, record, choice)
        except NothingToDraw:  # only impossible choices: all count as equal then
            continue
        if not expected.certain:  # float32 may decide otherwise
            continue
        assert [token.id for token in choice.tokens] == expected.tokens
        assert (choice.completion, choice.finish_reason) == (expected.text, expected.finish_reason)
        if not isinstance(choice.stop_reason, int):
            assert choice.stop_reason == expected.stop_reason
        for token, step in zip(choice.tokens, expected.steps, strict=True):
            assert token.logprob == pytest.approx(step.logprob, abs=1e-5)
            assert token.sampling_logprob == pytest.approx(step.sampling_logprob, abs=1e-4)


def by_oracle(model: MarkovModel, record: CompletionRecord, choice: ChoiceRecord) -> Choice:
    request, prompt = record.request, record.prompts[choice.prompt_index]
    choices = request.guided_choice
    guide = Guide(tuple(c.encode() for c in choices), SPELLINGS, (EOS,)) if choices else None
    return generate(
        model,
        prompt,
        sampling_params(request, choice.candidate, record.seed, (EOS,)),
        max_tokens=request.max_tokens or 0,
        vocabulary=VOCABULARY.tokens,
        eos_ids=(EOS,),
        stops=request.stop,
        guide=guide,
        ignore_eos=request.ignore_eos,
        include_stop=request.include_stop_str_in_output,
        before=dangling(prompt),
    )


def dangling(prompt: tuple[int, ...]) -> bytes:
    return oracle.dangling(b"".join(VOCABULARY.tokens[token] for token in prompt))


def check_places(record: CompletionRecord, choice: ChoiceRecord) -> None:
    """Where the tokens stand in the text, and which of them are in it."""
    request, before = record.request, dangling(record.prompts[choice.prompt_index])
    ends = {*(() if request.ignore_eos else (EOS,)), *request.stop_token_ids}
    silent = ends - (set(request.stop_token_ids) if request.include_stop_str_in_output else set())
    drawn = [b"" if token.id in silent | {EOS} & ends else token.bytes for token in choice.tokens]
    if any(drawn):
        base = len(choice.text) - len(choice.completion)
        offsets = [token.offset - base for token in choice.tokens]
        assert offsets == oracle.offsets(drawn, before=before)
        kept = [number for number, token in enumerate(choice.tokens) if token.contributes]
        assert kept == oracle.contributing(drawn, len(choice.completion), before=before)
