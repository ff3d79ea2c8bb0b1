"""Hypothesis strategies: every sampling parameter mixed, with the values that rules turn on."""

from __future__ import annotations

import dataclasses

import numpy as np
from hypothesis import strategies as st

from tests.oracle.guide import Guide
from tests.oracle.toy import random_table
from toolkit.sampling.params import SamplingParams

SEEDS = st.one_of(
    st.sampled_from([0, 1, -1, 1 + 2**32, 2**31, 2**63 - 1, -(2**63)]),
    st.integers(-(2**63), 2**63 - 1),
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Case:
    """One position: everything that `distribution` and the compiled sampler are given."""

    logits: np.ndarray
    params: SamplingParams
    prompt_ids: list[int]
    generated_ids: list[int]
    allowed_ids: list[int] | None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Job:
    """One whole choice over a random Markov model: the arguments of `generate`."""

    table: np.ndarray
    prompt_ids: list[int]
    params: SamplingParams
    max_tokens: int
    stops: list[str]
    choices: tuple[bytes, ...] | None
    ignore_eos: bool
    include_stop: bool

    def guide(self, vocabulary: list[bytes], eos_ids: tuple[int, ...]) -> Guide | None:
        """The brute-force guide of its choices, or None."""
        return None if self.choices is None else Guide(self.choices, vocabulary, eos_ids)


def number(low: float, high: float, *special: float) -> st.SearchStrategy[float]:
    """Floats of a range, half of the time one of the special values."""
    return st.one_of(st.sampled_from(special), st.floats(low, high, width=32))


def requests(vocab_size: int, *, spare: int | None = None) -> st.SearchStrategy[SamplingParams]:
    """Sampling parameters over their whole ranges; each is neutral about half of the time.

    `spare` is an id that is never a stop id, so that `min_tokens` always leaves something.
    """
    ids = st.integers(0, vocab_size - 1)
    stop_ids = st.lists(ids.filter(lambda token: token != spare), max_size=3, unique=True)
    return st.builds(
        SamplingParams,
        temperature=number(0.125, 2, 1.0, 0.0, 1.0, 2.0, 0.5, 1e-7, 1e-30),
        top_p=number(0, 1, 1.0, 1.0, 1.0, 0.0, 0.5, 0.9, 1 - 2**-24, 1e-7),
        top_k=st.one_of(
            st.sampled_from([0, 0, 0, 1, 2, vocab_size, vocab_size + 1]), st.integers(1, vocab_size)
        ),
        min_p=number(2**-20, 1, 0.0, 0.0, 0.0, 1.0, 0.1),
        typical_p=number(0, 1, 1.0, 1.0, 1.0, 0.0, 0.5, 0.95),
        repetition_penalty=number(0.0625, 16, 1.0, 1.0, 1.0, 1.25, 0.5, 2.0),
        frequency_penalty=number(-2, 2, 0.0, 0.0, 2.0, -2.0),
        presence_penalty=number(-2, 2, 0.0, 0.0, 2.0, -2.0),
        logit_bias=st.one_of(
            st.just({}),
            st.dictionaries(ids, number(-100, 100, 100.0, -100.0, 0.0, 1.0), max_size=5),
        ),
        seed=SEEDS,
        choice=st.integers(0, 127),
        min_tokens=st.sampled_from([0, 0, 0, 1, 3, 8]),
        stop_ids=stop_ids.map(tuple),
    )


@st.composite
def logits(draw: st.DrawFn, vocab_size: int) -> np.ndarray:
    """Raw float32 logits `[V]` of many shapes; some have minus infinities, but never id 0."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    kind = draw(
        st.sampled_from(["smooth", "narrow", "wide", "huge", "tied", "flat", "peaked", "holes"])
    )
    values = rng.normal(size=vocab_size)
    if kind in ("narrow", "wide", "huge"):
        values *= {"narrow": 0.01, "wide": 10.0, "huge": 1e4}[kind]
    if kind == "tied":
        values = np.round(values)
    if kind == "flat":
        values[:] = values[0]
    if kind == "peaked":
        values[rng.integers(vocab_size)] += 50
    if kind == "holes":
        values[1:][rng.random(vocab_size - 1) < 0.5] = -np.inf
    return values.astype(np.float32)


@st.composite
def cases(draw: st.DrawFn, vocab_size: int, *, history: int = 12) -> Case:
    """One position after up to `history` ids of prompt and completion; id 0 is never masked."""
    ids = st.lists(st.integers(0, vocab_size - 1), max_size=history)
    guided = st.one_of(
        st.none(),
        st.sets(st.integers(0, vocab_size - 1), max_size=8).map(lambda s: sorted({0, *s})),
    )
    return Case(
        logits=draw(logits(vocab_size)),
        params=draw(requests(vocab_size, spare=0)),
        prompt_ids=draw(ids),
        generated_ids=draw(st.one_of(ids, st.just([1 % vocab_size] * history))),
        allowed_ids=draw(guided),
    )


@st.composite
def jobs(
    draw: st.DrawFn, vocabulary: list[bytes], *, eos_ids: tuple[int, ...] = (), max_tokens: int = 12
) -> Job:
    """A whole choice over a random Markov model, with stops that may well occur, or with a guide.

    Stop ids, stops and a guide do not meet: the contract refuses a stop inside a choice.
    """
    ordinary = [i for i, piece in enumerate(vocabulary) if piece and i not in eos_ids]
    pieces = [vocabulary[token] for token in ordinary]
    guided = draw(st.sampled_from([False, False, True]))
    params = draw(requests(len(vocabulary), spare=ordinary[0]))
    texts = st.one_of(
        st.sampled_from(pieces),
        st.lists(st.sampled_from(pieces), min_size=1, max_size=3).map(b"".join),
    )
    stops = st.lists(
        texts.map(lambda data: data.decode(errors="ignore")).filter(bool), max_size=3, unique=True
    )
    return Job(
        table=random_table(
            len(vocabulary),
            draw(st.integers(0, 2**32 - 1)),
            scale=draw(st.sampled_from([0.5, 2.0, 8.0])),
        ),
        prompt_ids=draw(st.lists(st.integers(0, len(vocabulary) - 1), min_size=1, max_size=5)),
        params=dataclasses.replace(params, stop_ids=()) if guided else params,
        max_tokens=draw(st.one_of(st.integers(0, max_tokens), st.just(max_tokens))),
        stops=[] if guided else draw(stops),
        choices=_choices(draw(st.lists(texts, min_size=1, max_size=4, unique=True)), eos_ids)
        if guided
        else None,
        ignore_eos=draw(st.booleans()),
        include_stop=draw(st.booleans()),
    )


def _choices(texts: list[bytes], eos_ids: tuple[int, ...]) -> tuple[bytes, ...]:
    """Without an end-of-text id no choice may be a prefix of another one."""
    if eos_ids:
        return tuple(texts)
    return tuple(text for text in texts if not any(o != text and o.startswith(text) for o in texts))
