"""Comparing two targets, or two settings of one: ask both, collect the evidence."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from toolkit.errors import InvalidRequest, RunError, TargetError
from toolkit.experiments import forcing
from toolkit.experiments.compare import asking, scoring
from toolkit.experiments.compare.asking import Asker
from toolkit.experiments.compare.evidence import Evidence, Sampled, Scored, Tokenised
from toolkit.experiments.compare.prompts import PROMPTS
from toolkit.experiments.probe import probe
from toolkit.experiments.reading import Token
from toolkit.experiments.statistics import PairedDifference, paired_difference
from toolkit.experiments.target import Answer, Local, Target

Metric = Callable[[str, str], float]
"""From a prompt and a completion to a number."""

SETTINGS: Mapping[str, Mapping[str, Any]] = {
    "plain": {"temperature": 1, "top_p": 1},
    "defaults": {},
    "top_p": {"temperature": 1, "top_p": 0.8},
}
"""What is drawn unless the caller gives parameters: nothing in the way, whatever the server does if
nothing is said, and truncation."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Plan:
    """How much to ask. See `compare`."""

    prompts: tuple[str, ...] = PROMPTS
    parameters: tuple[Mapping[str, Any], Mapping[str, Any]] | None = None
    max_tokens: int = 32
    samples: int = 24
    sample_tokens: int = 8
    metrics: Mapping[str, Metric] = dataclasses.field(default_factory=dict)
    alpha: float = 0.001
    seed: int = 0
    probe: bool = True


def evidence(one: Target, other: Target, plan: Plan, names: tuple[str, str]) -> Evidence:
    """Ask both everything in the plan."""
    given = plan.parameters or ({}, {})
    a, b = Asker(one, given[0]), Asker(other, given[1])
    rng = np.random.default_rng(plan.seed)
    notes: list[str] = []
    tokenised = list(asking.tokenised(a, b, plan.prompts))
    answers = [
        asking.together(lambda p, side=side: side.greedy(p, plan.max_tokens), plan.prompts)
        for side in (a, b)
    ]
    tokenised = [
        dataclasses.replace(t, used_a=asking.used(x), used_b=asking.used(y))
        for t, x, y in zip(tokenised, *answers, strict=True)
    ]
    probes = (probe(one), probe(other)) if plan.probe else None
    foreign = any(t.same is False and t.added is None for t in tokenised)
    scored, as_text, lead, odd = [], [], None, {}
    if foreign:
        notes.append("the tokens differ, so that they were not scored one by one")
    else:
        forced = _scored(a, b, tokenised, answers[0], notes)
        odd = _contradicting(a, b, plan.prompts, forced, (answers[0], answers[1]))
        scored = [] if odd else _aligned(forced)
        as_text, lead = _as_text(a, b, tokenised, scored) if scored else ([], None)
    if not scored and not foreign:
        scored = list(_of_generation(*answers))
        notes.append(
            "no scores of given texts could be used: log-probabilities are of what was generated"
        )
    sampled = [_sampled(name, a, b, plan, fields, rng) for name, fields in _settings(plan)]
    return Evidence(
        name_a=names[0],
        name_b=names[1],
        prompts=plan.prompts,
        tokenised=tuple(tokenised),
        scored=tuple(scored),
        as_text=tuple(as_text),
        lead=lead,
        greedy=tuple(asking.greedy(i, x, y) for i, (x, y) in enumerate(zip(*answers, strict=True))),
        sampled=tuple(sampled),
        metrics=_metrics(plan, sampled[0], rng),
        timing=_timing(a, b, plan, notes),
        probes=probes,
        contradicting=odd,
        notes=tuple(notes),
        alpha=plan.alpha,
        settings_differ=_differing(given),
    )


def _differing(given: tuple[Mapping[str, Any], Mapping[str, Any]]) -> tuple[str, ...]:
    names = sorted(given[0].keys() | given[1].keys())
    return tuple(
        f"{name} ({given[0].get(name)!r} and {given[1].get(name)!r})"
        for name in names
        if given[0].get(name) != given[1].get(name)
    )


# --- scores ---------------------------------------------------------------------------------------


def _scored(
    a: Asker,
    b: Asker,
    tokenised: Sequence[Tokenised],
    answers: Sequence[Answer],
    notes: list[str],
) -> Forced:
    """Each prompt with A's greedy completion, scored by both as ids; as text where one refuses
    ids."""
    pairs = list(zip(tokenised, answers, strict=True))
    forced = _both(a, b, [_ids(prompt, answer) for prompt, answer in pairs])
    if not _aligned(forced):
        forced = _both(a, b, [prompt.prompt + asking.text_of(answer) for prompt, answer in pairs])
        if _aligned(forced):
            notes.append("ids are not scored by both: texts were")
    return forced


def _contradicting(
    a: Asker,
    b: Asker,
    prompts: Sequence[str],
    forced: Forced,
    answers: tuple[Sequence[Answer], Sequence[Answer]],
) -> dict[str, float]:
    """The sides whose scores contradict what they generate, and by how much.

    Ids and text may differ for another reason, a BOS that only text gets: what ids say is asked of
    three texts again.
    """
    found = {}
    given, made = ([asking.tokens_of(answer) for answer in side] for side in answers)
    for side, asker, own in ((0, a, given), (1, b, made)):
        if _worst([pair[side] for pair in forced], given, own) > scoring.CLOSE:
            texts = [p + asking.text_of(x) for p, x in zip(prompts, answers[0], strict=True)][:3]
            told = [forcing.scores(asker.target, text) for text in texts]
            if (worst := _worst(told, given, own)) > scoring.CLOSE:
                found[asker.target.name] = worst
    return found


def _worst(
    told: Sequence[list[Token] | None], given: Sequence[list[Token]], own: Sequence[list[Token]]
) -> float:
    triples = zip(told, given, own, strict=False)
    return max((scoring.contradiction(*triple) for triple in triples), default=0.0)


Forced = list[tuple[list[Token] | None, list[Token] | None]]


def _both(a: Asker, b: Asker, prompts: Sequence[Any]) -> Forced:
    """Prompts scored by both; None is not asked."""
    first, second = (
        asking.together(lambda p, side=side: p and forcing.scores(side.target, p), prompts)
        for side in (a, b)
    )
    return list(zip(first, second, strict=True))


def _aligned(forced: Forced) -> list[Scored]:
    """What both scored, token by token."""
    return [
        scored
        for index, (first, second) in enumerate(forced)
        if first and second
        for scored in scoring.aligned(index, first, second)
    ]


def _ids(prompt: Tokenised, answer: Answer) -> list[int] | None:
    """The shorter ids of the prompt, without what only one puts in front, and those of A's
    completion."""
    known = [ids for ids in (prompt.ids_a, prompt.ids_b) if ids is not None]
    if not known:
        return None
    return [*min(known, key=len), *(asking.completion_ids(answer) or ())]


def _as_text(
    a: Asker, b: Asker, tokenised: Sequence[Tokenised], scored: Sequence[Scored]
) -> tuple[list[Scored], int | None]:
    """Prompts sent as text, scored by both; and, where only that differs, the token in front that
    explains it."""
    found = _aligned(_both(a, b, [prompt.prompt for prompt in tokenised]))
    odd = any(abs(s.difference) > 0.01 for s in found)
    if not odd or any(abs(s.difference) > 0.01 for s in scored):
        return found, None
    return found, next((x for x in _leads(a) if _explains(x, a, b, tokenised)), None)


def _leads(a: Asker) -> list[int]:
    """Tokens that servers put in front of a text, of a model in this process."""
    if not isinstance(a.target, Local):
        return []
    tokenizer = a.target.lm.tokenizer
    ids = [tokenizer.bos_id, *tokenizer.eos_ids]
    return [token for token in dict.fromkeys(ids) if token is not None]


def _explains(lead: int, a: Asker, b: Asker, tokenised: Sequence[Tokenised]) -> bool:
    """Whether A with this token in front scores the first prompts as B scores their text."""
    gaps: list[float] = []
    for index, prompt in enumerate(tokenised[:3]):
        if prompt.ids_a is None:
            return False
        first = forcing.scores(a.target, [lead, *prompt.ids_a])
        second = forcing.scores(b.target, prompt.prompt)
        if first and second:
            gaps += [abs(s.difference) for s in scoring.aligned(index, first[1:], second)]
    return bool(gaps) and max(gaps) < 0.01


def _of_generation(first: Sequence[Answer], second: Sequence[Answer]) -> list[Scored]:
    """The tokens of both greedy completions for as long as they are the same."""
    found: list[Scored] = []
    for index, pair in enumerate(zip(first, second, strict=True)):
        a, b = (asking.tokens_of(answer) for answer in pair)
        for position, (x, y) in enumerate(zip(a, b, strict=False)):
            if x.data != y.data:
                break
            found += scoring.aligned(index, [x], [y])
            found[-1:] = [dataclasses.replace(s, position=position) for s in found[-1:]]
    return found


# --- samples, metrics, speed, behaviour -----------------------------------------------------------


def _settings(plan: Plan) -> list[tuple[str, tuple[Mapping[str, Any], Mapping[str, Any]]]]:
    if plan.parameters is not None:
        return [("as given", plan.parameters)]
    return [(name, (fields, fields)) for name, fields in SETTINGS.items()]


def _sampled(
    name: str,
    a: Asker,
    b: Asker,
    plan: Plan,
    fields: tuple[Mapping[str, Any], Mapping[str, Any]],
    rng: np.random.Generator,
) -> Sampled:
    return asking.sampled(
        name,
        a,
        b,
        plan.prompts,
        fields=fields,
        count=plan.samples,
        length=plan.sample_tokens,
        rng=rng,
    )


def _metrics(plan: Plan, drawn: Sampled, rng: np.random.Generator) -> dict[str, PairedDifference]:
    """Each metric's mean over the samples of a prompt, compared prompt by prompt."""
    found = {}
    for name, metric in plan.metrics.items():
        sides = [
            [
                float(np.mean([metric(prompt, text) for text in pair[side]]))
                for prompt, pair in zip(plan.prompts, drawn.texts, strict=True)
            ]
            for side in (0, 1)
        ]
        found[name] = paired_difference(sides[0], sides[1], rng)
    return found


def _timing(a: Asker, b: Asker, plan: Plan, notes: list[str]) -> Any:
    try:
        return tuple(asking.timing(side, plan.prompts[:3], plan.max_tokens) for side in (a, b))
    except (InvalidRequest, TargetError, RunError) as error:
        notes.append(f"speed was not measured: {error}"[:160])
        return None
