"""Frequencies of the real model's first and third tokens against the exact distribution.

10,000 seeds go through the compiled sampler with the model's own logits; a few hundred choices run
from end to end. Every comparison fails by chance with a probability of at most 1e-6
(`frequencies.fit`), and must fail against the distribution without the parameter.
"""

from __future__ import annotations

import dataclasses
import functools
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

import jax
import numpy as np
import pytest

import toolkit
from tests.engine.logits import NextLogits, own_logits
from tests.oracle.sampler import distribution
from tests.statistics.frequencies import FALSE_ALARM, fit
from toolkit.models.compiler import jit
from toolkit.sampling.guide import FREE, Guide, GuideTables, pack
from toolkit.sampling.params import Report, Rows, SamplingParams, seed_words
from toolkit.sampling.sample import sample
from toolkit.sampling.transforms import History
from toolkit.sampling.variant import Variant

SEEDS = 10_000
CHUNK = 250
"""Rows of one call."""
LENGTH = 16
"""Most ids of a prompt and what is drawn after it."""
ENDED = -1
"""Instead of a token, where a guided choice was complete before."""

PROMPT = "one two three one two three one two"
CHOICES = (" grey", " green", " 3.14", " 3", " 27")
"""One of them begins another; the spaces and numbers are tokens of their own, so there are many
ways."""

CASES: dict[str, SamplingParams] = {
    "temperature": SamplingParams(temperature=0.7),
    "top_p": SamplingParams(top_p=0.7),
    "top_k": SamplingParams(top_k=20),
    "min_p": SamplingParams(min_p=0.1, temperature=1.5),
    "typical_p": SamplingParams(typical_p=0.5),
    "penalties": SamplingParams(
        repetition_penalty=1.2, frequency_penalty=1.0, presence_penalty=0.5
    ),
    "logit_bias": SamplingParams(logit_bias={1296: 1.0, 827: -1.5, 29: -2.0}),  # three, two, -
    "guided_choice": SamplingParams(),
}

Prefix = tuple[int, ...]
Tree = dict[Prefix, dict[int, float]]
"""The probability of each next token after each prefix that can occur; after the end, ENDED."""


@dataclasses.dataclass(frozen=True)
class Model:
    """The real model at one prompt."""

    lm: toolkit.LM
    prompt: tuple[int, ...]
    next_logits: NextLogits

    @property
    def guide(self) -> Guide:
        """The automaton of CHOICES."""
        return self.lm.guide(CHOICES)

    def node(self, prefix: Prefix, guided: bool) -> int:
        """Where a prefix leads; FREE where nothing guides or the choice is complete."""
        return functools.reduce(self.guide.advance, prefix, 1) if guided else FREE

    def probabilities(self, prefix: Prefix, params: SamplingParams, guided: bool) -> np.ndarray:
        """The exact distribution of the token after a prefix: `[V]` float64."""
        node = self.node(prefix, guided)
        return distribution(
            self.next_logits((*self.prompt, *prefix)),
            params,
            prompt_ids=self.prompt,
            generated_ids=prefix,
            allowed_ids=list(self.guide.edges[node - 1]) if guided else None,
        ).probabilities

    def tree(self, params: SamplingParams, guided: bool, depth: int) -> Tree:
        """Every prefix shorter than `depth` that can occur, with the exact next probabilities."""
        tree: Tree = {}
        level: list[Prefix] = [()]
        for _ in range(depth):
            for prefix in level:
                if prefix and (prefix[-1] == ENDED or (guided and not self.node(prefix, guided))):
                    tree[prefix] = {ENDED: 1.0}
                else:
                    p = self.probabilities(prefix, params, guided)
                    tree[prefix] = {int(i): float(p[i]) for i in np.flatnonzero(p)}
            level = [(*prefix, token) for prefix in level for token in tree[prefix]]
        return tree


@pytest.fixture(scope="module")
def model(lm: toolkit.LM) -> Model:
    """The embedded model, which was not made for this and has broad distributions here."""
    return Model(lm, tuple(lm.tokenizer.encode(PROMPT)), own_logits(lm, LENGTH))


# The exact distribution


def at_depth(tree: Tree, depth: int) -> dict[int, float]:
    """The distribution of the token number `depth`, counted from 0."""
    reached: dict[Prefix, float] = {(): 1.0}
    for _ in range(depth):
        reached = {
            (*prefix, token): mass * p
            for prefix, mass in reached.items()
            for token, p in tree[prefix].items()
        }
    found: Counter[int] = Counter()
    for prefix, mass in reached.items():
        for token, p in tree[prefix].items():
            found[token] += mass * p
    return dict(found)


def fits(tokens: Sequence[int], exact: Mapping[int, float]) -> float:
    """`fit` of drawn tokens to a distribution."""
    counts = Counter(int(token) for token in tokens)
    cells = sorted(counts | exact)
    return fit(
        np.array([counts[cell] for cell in cells]), np.array([exact.get(cell, 0) for cell in cells])
    )


# Draws through the compiled sampler


@jit
def draw_rows(
    logits: jax.Array, history: History, which: jax.Array, rows: Rows, tables: GuideTables
) -> jax.Array:
    """A token for each row, whose logits and history are those of the prefix `which`."""
    seen = jax.tree.map(lambda x: x[which], history)
    return sample(logits[which], rows, seen, tables, Variant()).token


def draw(
    model: Model, prefixes: list[Prefix], which: np.ndarray, params: SamplingParams, guided: bool
) -> np.ndarray:
    """The next token of seeds 0, 1, ... after `prefixes[which[seed]]`."""
    logits = np.stack([model.next_logits((*model.prompt, *prefix)) for prefix in prefixes])
    tables, _ = pack([model.guide] if guided else [])
    history = history_of(model, prefixes, guided)
    row = Rows.stack([params], [Report()])
    rows = jax.tree.map(lambda x: np.repeat(x, CHUNK, axis=0), row)
    tokens = []
    for start in range(0, len(which), CHUNK):
        seeds = np.asarray([seed_words(start + i) for i in range(CHUNK)], np.uint32)
        seeded = dataclasses.replace(rows, seed=seeds)
        part = which[start : start + CHUNK].astype(np.int32)
        tokens.append(np.asarray(draw_rows(logits, history, part, seeded, tables)))
    return np.concatenate(tokens)


def history_of(model: Model, prefixes: list[Prefix], guided: bool) -> History:
    """What rows have seen that generated these prefixes: arrays `[P, ...]`."""
    size = model.lm.tokenizer.vocab_size
    prompted = np.isin(np.arange(size), model.prompt)
    arrays = {
        "step": np.asarray([len(prefix) for prefix in prefixes], np.int32),
        "counts": np.stack([np.bincount(p, minlength=size) for p in map(np.int64, prefixes)]),
        "prompted": np.broadcast_to(prompted, (len(prefixes), size)),
        "node": np.asarray([model.node(prefix, guided) for prefix in prefixes], np.int32),
    }
    return History(**jax.device_put(arrays | {"counts": arrays["counts"].astype(np.int32)}))


def walk(model: Model, params: SamplingParams, guided: bool, depth: int) -> Iterator[np.ndarray]:
    """The first `depth` tokens of every seed, one position at a time."""
    came: list[Prefix] = [()] * SEEDS
    for _ in range(depth):
        over = [guided and bool(p) and not model.node(p, guided) for p in came]
        prefixes = sorted({p for p, ended in zip(came, over, strict=True) if not ended})
        place = {prefix: number for number, prefix in enumerate(prefixes)}
        which = np.asarray([place.get(prefix, 0) for prefix in came])
        tokens = np.where(over, ENDED, draw(model, prefixes, which, params, guided))
        came = [(*p, int(t)) if t != ENDED else p for p, t in zip(came, tokens, strict=True)]
        yield tokens


# Tests


def check_first(model: Model, name: str, seeds: int) -> None:
    """The first token's frequencies over some seeds: right, and noticeably not without `name`."""
    params, guided = CASES[name], name == "guided_choice"
    tokens = draw(model, [()], np.zeros(seeds, np.int64), params, guided)
    exact = at_depth(model.tree(params, guided, 1), 0)
    plain = at_depth(model.tree(SamplingParams(), False, 1), 0)
    assert fits(tokens, exact) >= FALSE_ALARM > fits(tokens, plain)


def test_first_token_over_a_thousand_seeds(model):
    check_first(model, "temperature", 1000)


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_first_token_over_ten_thousand_seeds(model, name):
    check_first(model, name, SEEDS)


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_third_token_over_ten_thousand_seeds(model, name):
    """With top_k 3 there are nine ways to the third token, and all of them are summed over.

    Without the parameter, but with top_k, the third token would be noticeably another one.
    """
    guided = name == "guided_choice"
    params = CASES[name] if guided else dataclasses.replace(CASES[name], top_k=3)
    tree = model.tree(params, guided, 3)
    assert len(tree) > 5
    drawn = list(walk(model, params, guided, 3))
    for depth, tokens in enumerate(drawn):
        assert fits(tokens, at_depth(tree, depth)) >= FALSE_ALARM
    if name != "top_k":
        plain = model.tree(SamplingParams(top_k=3), False, 3)
        assert fits(drawn[2], at_depth(plain, 2)) < FALSE_ALARM


END_TO_END = {
    "truncated": SamplingParams(temperature=1.3, top_p=0.9, min_p=0.05),
    "edited": dataclasses.replace(CASES["penalties"], logit_bias=CASES["logit_bias"].logit_bias),
    "guided_choice": SamplingParams(temperature=2.0),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", END_TO_END)
def test_whole_completions_of_384_choices(model, name):
    """First and third token of 3 seeds with 128 choices each."""
    guided = name == "guided_choice"
    params = END_TO_END[name] if guided else dataclasses.replace(END_TO_END[name], top_k=3)
    fields = ("temperature", "top_p", "top_k", "min_p", "logit_bias")
    asked = {field: getattr(params, field) for field in fields} | {
        "repetition_penalty": params.repetition_penalty,
        "frequency_penalty": params.frequency_penalty,
        "presence_penalty": params.presence_penalty,
        "guided_choice": CHOICES if guided else None,
        "ignore_eos": not guided,
        "max_tokens": 3,
        "n": 128,
    }
    answers = [model.lm.complete(PROMPT, seed=seed, **asked) for seed in (1, 2, 3)]
    drawn = [[t.id for t in choice.tokens] for a in answers for choice in a.record.choices]
    tree = model.tree(params, guided, 3)
    for depth in (0, 2):
        tokens = [ids[depth] if depth < len(ids) else ENDED for ids in drawn]
        assert fits(tokens, at_depth(tree, depth)) >= FALSE_ALARM
