"""Whole requests through a loaded model against the oracle's generation: tokens, text and ends.

Random parameters, stops and guides meet random Markov tables and a random decoder of two layers.
Where rounding could turn a draw (`Step.certain`), the rest of that choice is not compared.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

import toolkit
from tests.engine.logits import NextLogits, own_logits
from tests.models import tiny
from tests.oracle.choice import Choice, Step, generate
from tests.oracle.strategies import Job, jobs
from tests.oracle.text import characters
from tests.oracle.toy import MarkovModel, ToyVocabulary, random_table, toy_decoder, write_toy
from tests.sampling.batches import gather
from toolkit.completion.record import ChoiceRecord
from toolkit.completion.run import Run
from toolkit.engine.steps import Steps

CONTEXT = 32
TOGETHER = 16
"""Requests in flight; half of their choices wait for a row."""
REQUESTS = [160, pytest.param(640, marks=pytest.mark.slow)]
UNCERTAIN = 0.05
"""Largest share of choices that rounding may turn somewhere; it is 2.6 %."""
OTHER_ORDER = 16
"""How much more noise there is where the logits themselves were added up in another order."""
UNCERTAIN_DECODER = 0.35
"""The share with that noise; it is 23 %."""

VOCABULARY = ToyVocabulary(words=(b"abc", b"ga"))
EOS = VOCABULARY.eos_id
PIECES = [*(bytes([letter]) for letter in b"abcdefgh"), b"abc", b"\xc3", b"\xa9", b"ga", b"<|end|>"]
"""What the models like to say: few enough tokens for stops, repeats and choices to happen."""
IDS = [VOCABULARY.tokens.index(piece) for piece in PIECES]

SHARED = (
    *("temperature", "top_p", "top_k", "min_p", "typical_p", "seed", "min_tokens", "logit_bias"),
    *("repetition_penalty", "frequency_penalty", "presence_penalty"),
)
"""Parameters of a request that the sampler has by the same names."""


def requests(count: int) -> list[Job]:
    """Jobs over PIECES, with the same numbers in the whole vocabulary, as the API accepts them."""
    return [
        _accepted(job) for job in gather(jobs(PIECES, eos_ids=(PIECES.index(b"<|end|>"),)), count)
    ]


def _accepted(job: Job) -> Job:
    texts = [text for text in job.choices or () if not characters(text)[1] < len(text)]
    texts = [text for text in texts if "\ufffd" not in text.decode(errors="replace")]
    params = dataclasses.replace(
        job.params,
        logit_bias={IDS[token]: value for token, value in job.params.logit_bias.items()},
        stop_ids=tuple(IDS[t] for t in job.params.stop_ids if IDS[t] != EOS),
        min_tokens=min(job.params.min_tokens, job.max_tokens),
        choice=0,
    )
    return dataclasses.replace(
        job,
        prompt_ids=[IDS[token] for token in job.prompt_ids],
        params=params,
        choices=tuple(texts) or None,
        stops=[] if texts else job.stops,
        ignore_eos=job.ignore_eos and not texts,
    )


def start(lm: toolkit.LM, job: Job, n: int) -> Run:
    """Submit a job as a request for `n` choices."""
    p = job.params
    asked: dict[str, Any] = {name: getattr(p, name) for name in SHARED} | {
        "max_tokens": job.max_tokens,
        "stop": job.stops,
        "stop_token_ids": p.stop_ids,
        "guided_choice": [text.decode() for text in job.choices] if job.choices else None,
        "ignore_eos": job.ignore_eos,
        "include_stop_str_in_output": job.include_stop,
        "n": n,
        "details": True,
    }
    return Run(lm, lm.parse(job.prompt_ids, asked, stream=False))


def expected(next_logits: NextLogits, job: Job, choice: int) -> Choice:
    """What the oracle generates for one candidate."""
    prompt = b"".join(VOCABULARY.tokens[token] for token in job.prompt_ids)
    return generate(
        next_logits,
        job.prompt_ids,
        dataclasses.replace(job.params, choice=choice),
        max_tokens=job.max_tokens,
        vocabulary=VOCABULARY.tokens,
        eos_ids=[EOS],
        stops=job.stops,
        guide=job.guide(VOCABULARY.tokens, (EOS,)),
        ignore_eos=job.ignore_eos,
        include_stop=job.include_stop,
        before=prompt[characters(prompt)[1] :],
    )


def check(record: ChoiceRecord, oracle: Choice, job: Job, certain: Callable[[Step], bool]) -> bool:
    """Compare a choice; whether all of it was certain and so compared."""
    count = next((i for i, step in enumerate(oracle.steps) if not certain(step)), None)
    assert [t.id for t in record.tokens][:count] == oracle.tokens[:count]
    for mine, step in zip(record.tokens, oracle.steps[:count], strict=False):
        assert mine.logprob == pytest.approx(step.logprob, rel=1e-5, abs=1e-4)
    if count is not None:
        return False
    assert (record.text, record.finish_reason) == (oracle.text, oracle.finish_reason)
    assert record.stop_reason == (oracle.stop_reason or stop_id(oracle, job))
    return True


def stop_id(oracle: Choice, job: Job) -> int | None:
    """The stop id that ended a choice, other than the end of a text."""
    last = oracle.tokens[-1] if oracle.finish_reason == "stop" else EOS
    return last if last in job.params.stop_ids and last != EOS else None


def compare(
    lm: toolkit.LM, next_logits: NextLogits, found: list[Job], certain: Callable[[Step], bool]
) -> list[bool]:
    """Run requests together and check every choice; which were certain."""
    widths = [1 + job.params.seed % 3 for job in found]
    runs = [start(lm, job, n) for job, n in zip(found, widths, strict=True)]
    outcome = []
    for run, job in zip(runs, found, strict=True):
        for record in run.finish().choices:
            oracle = expected(next_logits, job, record.candidate)
            try:
                outcome.append(check(record, oracle, job, certain))
            except AssertionError as error:
                asked = dataclasses.replace(job, table=np.zeros(0))
                end = oracle.tokens, oracle.text, oracle.finish_reason, oracle.stop_reason
                raise AssertionError(f"{error}\nin {asked}\ngot {record}\nnot {end}") from error
    return outcome


# Markov tables


def table_of(seed: int) -> np.ndarray:
    """Logits between PIECES of one of three scales; the other ids are improbable or impossible."""
    small = random_table(len(PIECES), seed, scale=(0.5, 2.0, 8.0)[seed % 3])
    table = np.full((VOCABULARY.size,) * 2, (-6.0, -np.inf)[seed % 2], np.float32)
    rows = np.arange(VOCABULARY.size) % len(PIECES)
    table[:, IDS] = small[rows]
    table[IDS] = table[: len(IDS)]
    return table


@pytest.fixture(scope="module")
def markov(tmp_path_factory: pytest.TempPathFactory) -> Iterator[toolkit.LM]:
    """A toy model whose weights are replaced for every batch of requests."""
    folder = write_toy(
        tmp_path_factory.mktemp("markov") / "toy", table_of(0), VOCABULARY, context=CONTEXT
    )
    with toolkit.load(folder, max_batch=8, strict=True) as lm:
        yield lm


def use(lm: toolkit.LM, table: np.ndarray) -> NextLogits:
    """Give the idle engine another table; its logits in NumPy."""
    lm.engine.leaves = Steps.of(toy_decoder(table, context=CONTEXT, layers=1))[1]
    lm.engine.forget_prompts()
    return MarkovModel(table)


@pytest.mark.parametrize("count", REQUESTS)
def test_requests_over_random_markov_models(markov, count):
    outcome: list[bool] = []
    found = requests(count)
    for seed, at in enumerate(range(0, len(found), TOGETHER)):
        next_logits = use(markov, table_of(seed))
        batch = found[at : at + TOGETHER]
        outcome += compare(markov, next_logits, batch, lambda step: step.certain)
    assert len(outcome) > 1.5 * len(found)
    assert np.mean(outcome) > 1 - UNCERTAIN


# A decoder


@pytest.fixture(scope="module")
def decoder_lm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[toolkit.LM]:
    """A random Llama of two layers with the toy's tokenizer."""
    folder = tmp_path_factory.mktemp("decoder") / "tiny"
    write_toy(folder, table_of(0), VOCABULARY, context=CONTEXT)
    with toolkit.load(_random_llama(folder), max_batch=8, strict=True) as lm:
        yield lm


def _random_llama(folder: Path) -> Path:
    sizes = {"vocab_size": VOCABULARY.size, "max_position_embeddings": CONTEXT}
    weights = tiny.tensors(7, **sizes)
    others = np.setdiff1d(np.arange(VOCABULARY.size), IDS)
    weights["lm_head.weight"][IDS] *= 4
    weights["lm_head.weight"][others] /= 16
    tiny.write_folder(folder, weights, **sizes, eos_token_id=EOS)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


@pytest.mark.parametrize("count", REQUESTS)
def test_requests_over_a_random_decoder(decoder_lm, count):
    def certain(step: Step) -> bool:
        return step.margin > OTHER_ORDER * step.distribution.noise

    next_logits = own_logits(decoder_lm, CONTEXT)
    outcome: list[bool] = []
    found = requests(count // 2)
    for at in range(0, len(found), TOGETHER):
        outcome += compare(decoder_lm, next_logits, found[at : at + TOGETHER], certain)
    assert np.mean(outcome) > 1 - UNCERTAIN_DECODER
