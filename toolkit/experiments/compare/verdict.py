"""From evidence to findings, the likeliest cause first, and to one sentence."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator

import numpy as np

from toolkit.experiments.compare.evidence import Evidence, Sampled, Scored
from toolkit.experiments.probe import Check
from toolkit.experiments.statistics import holm

SAME = 1e-3
"""Largest difference of log-probabilities, in nats, that float32 sums in another order explain."""
TIE = 1e-4
"""A greedy split with a smaller gap, or one within ten times the largest difference of scores, may
be rounding."""
ROUNDED = 0.03
"""Median difference up to which another dtype explains it: 0.02 for a small model in bfloat16."""
RELATED = 0.75
"""Share of the variance of A's log-probabilities that B's explain, below which the models are
different ones."""
AGREEING = 0.5
"""Share of places with the same likeliest token, below which they are different ones too. A model
of 135 million parameters in 4 bits has 0.57, and explains 0.83."""
FEW = 20
"""Scored tokens below which greedy splits are counted with them."""
LEAST = -15.0
"""Log-probabilities below this count as this: a few impossible tokens would outweigh all others."""

BEHAVIOUR = {
    "logprobs under temperature": "scaled logprobs",
    "logprobs under top_p": "truncated logprobs",
    "top_p": "top_p",
    "text_offset": "offsets",
    "seed": "seed",
    "penalties": "penalties",
    "stop": "stop",
    "echo": "echo",
    "echo scores": "echo scores",
    "logit_bias ±100": "logit_bias",
    "alone and in a list": "batch",
    "prompt forms": "prompt forms",
    "n": "n",
    "best_of": "best_of",
    "max_tokens 0": "max_tokens 0",
    "guided_choice": "guided_choice",
    "stream": "stream",
    "characters in streams": "stream",
}
"""Checks of the probe whose difference is a finding, and what it is called. The others (errors,
unknown fields, suffix) are a matter of the route."""


EXPLAINING = frozenset(
    {"bos", "dtype", "other model", "quantised weights", "scores", "settings", "template"}
    | {"tokenizer"}
)
"""Causes after which greedy texts and samples differ as a matter of course."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Finding:
    """One difference and its likely cause."""

    cause: str
    """A short name: `bos`, `tokenizer`, `template`, `other model`, `quantised weights`, `dtype`,
    `scaled logprobs`, `top_p`, `penalties`, `seed`, `offsets`, `settings`, `sampling`, ..."""
    sentence: str
    p: float | None = None
    """Corrected p-value where the finding is statistical; None where it is not up to chance."""
    check: str | None = None
    """The check of the probe that found it, if one did."""


def findings(e: Evidence) -> list[Finding]:
    """Everything that differs, causes before what follows from them."""
    texts = list(_texts(e))
    models = list(_models(e)) if not any(f.cause == "tokenizer" for f in texts) else []
    found = [*_settings(e), *texts, *models]
    found += [*_greedy(e, found), *_echo(e)]
    known = {f.cause for f in found}
    found += [f for f in _behaviour(e) if f.cause not in known]
    return found + list(_samples(e, found))


def verdict(e: Evidence, found: list[Finding]) -> str:
    """One sentence, and what else was seen."""
    if not found:
        return f"No difference between {e.name_a} and {e.name_b}: {_likeness(e)}."
    first, *others = found
    more = f" Also: {'; '.join(f.sentence for f in others)}." if others else ""
    return f"{e.name_b} differs from {e.name_a}: {first.sentence}.{more}"


def _likeness(e: Evidence) -> str:
    parts = []
    known = [t.same for t in e.tokenised if t.same is not None]
    if known:
        parts.append(f"the same tokens for {sum(known)} of {len(known)} prompts")
    if len(e.differences):
        worst = float(np.abs(e.differences).max())
        size = "equal to the last bit" if worst == 0 else f"within {worst:.1g} nats"
        parts.append(f"log-probabilities {size} over {len(e.differences):,} tokens")
    if e.greedy:
        parts.append(
            f"the same greedy text {sum(g.same for g in e.greedy)} of {len(e.greedy)} times"
        )
    if e.sampled:
        smallest = min(p for _, _, p in corrected(e))
        parts.append(
            f"samples that one distribution explains (smallest corrected p {smallest:.2g}, alarm "
            f"at {e.alpha:g})"
        )
    return ", ".join(parts) or "nothing could be compared"


# --- text into tokens -----------------------------------------------------------------------------


def _settings(e: Evidence) -> Iterator[Finding]:
    if e.settings_differ:
        asked = ", ".join(e.settings_differ)
        yield Finding(cause="settings", sentence=f"they were asked with different {asked}")


def _texts(e: Evidence) -> Iterator[Finding]:
    known = [t for t in e.tokenised if t.same is not None]
    if known and not all(t.same for t in known):
        added = {t.added for t in known}
        if len(added) == 1 and (more := added.pop()):
            yield _lead(e, more, f"its tokenizer gives {_tokens(more)} for every prompt")
        else:
            count = sum(not t.same for t in known)
            yield Finding(
                cause="tokenizer",
                sentence=f"another tokenizer: {count} of {len(known)} prompts become other tokens",
            )
        return
    gaps = {
        t.used_b - t.used_a for t in e.tokenised if t.used_a is not None and t.used_b is not None
    }
    if len(gaps) == 1 and (more := gaps.pop()):
        yield _lead(e, more, f"the model reads {_tokens(more)} for every prompt")
    elif len(gaps) > 1:
        yield Finding(
            cause="tokenizer", sentence="another tokenizer: it reads other numbers of tokens"
        )
    elif _text_alone_differs(e):
        if e.lead is not None:
            yield Finding(
                cause="bos",
                sentence=f"BOS: it scores text as if token {e.lead} stood in front, though it "
                "tells of none",
            )
        else:
            yield Finding(
                cause="template",
                sentence="template: it scores text otherwise than the ids of that text",
            )


def _tokens(more: int) -> str:
    return f"{abs(more)} token{'s' if abs(more) > 1 else ''} {'more' if more > 0 else 'fewer'}"


def _lead(e: Evidence, more: int, what: str) -> Finding:
    if abs(more) > 2:
        return Finding(cause="template", sentence=f"template: {what} ({more:+d}), as a chat does")
    ids = {tuple(t.ids_b[:more]) for t in e.tokenised if t.ids_b is not None and more > 0}
    token = f", id {', '.join(map(str, ids.pop()))}" if len(ids) == 1 and any(ids) else ""
    which = "a BOS is put" if more > 0 else "no BOS stands"
    return Finding(cause="bos", sentence=f"BOS: {what}, {which} in front{token}")


def _text_alone_differs(e: Evidence) -> bool:
    """Whether text is scored otherwise while ids are scored alike."""
    return bool(
        e.as_text and e.scored and _worst(e.scored) <= SAME and _worst(e.as_text) > 10 * SAME
    )


def _worst(scored: tuple[Scored, ...]) -> float:
    return max((abs(s.difference) for s in scored), default=0.0)


# --- tokens into log-probabilities ----------------------------------------------------------------


def _models(e: Evidence) -> Iterator[Finding]:
    if not e.scored or _worst(e.scored) <= SAME:
        return
    gaps = np.abs(e.differences)
    middle, worst, shared = float(np.median(gaps)), float(gaps.max()), explained(e.scored)
    best = [s.same_best for s in e.scored if s.same_best is not None]
    if len(gaps) < FEW:  # then a greedy split says as much as a token that was scored
        best += [False for g in e.greedy if not g.same and not g.gap < _tie(e)]
    share = sum(best) / len(best) if best else math.nan
    seen = (
        f"median |Δ| {middle:.2g}, largest {worst:.2g} nats over {len(gaps):,} tokens; "
        f"the best token is the same for {share:.0%}"
    )
    alike = sum(g.same for g in e.greedy) >= len(e.greedy) / 2
    if len(gaps) < FEW and alike:
        sentence = f"scores differ, on too few tokens to tell why ({seen})"
        yield Finding(cause="scores", sentence=sentence)
    elif middle <= SAME and shared > RELATED:
        sentence = f"arithmetic of another order or kernel ({seen})"
        yield Finding(cause="kernel", sentence=sentence)
    elif shared < RELATED or share < AGREEING:
        yield Finding(cause="other model", sentence=f"another model or other weights ({seen})")
    elif middle <= ROUNDED:
        sentence = f"dtype: weights or sums of 16 bits, or 8-bit weights ({seen})"
        yield Finding(cause="dtype", sentence=sentence)
    else:
        sentence = f"quantised weights, or a near relative of the model ({seen})"
        yield Finding(cause="quantised weights", sentence=sentence)


def explained(scored: tuple[Scored, ...]) -> float:
    """Share of the variance of A's log-probabilities that B's account for: 1 is equality; below 0,
    B's mean would do better. NaN for fewer than two."""
    a = np.array([max(s.logprob_a, LEAST) for s in scored])
    b = np.array([max(s.logprob_b, LEAST) for s in scored])
    spread = float(((a - a.mean()) ** 2).sum())
    return 1.0 - float(((b - a) ** 2).sum()) / spread if spread > 0 else math.nan


# --- requests into behaviour ----------------------------------------------------------------------


def _behaviour(e: Evidence) -> Iterator[Finding]:
    if e.probes is None:
        return
    first, second = e.probes
    others = {c.check: c for c in second}
    for check in first:
        other = others.get(check.check)
        if other is None or check.check not in BEHAVIOUR or not _differ(check, other):
            continue
        sentence = f"{check.check}: {other.observed} (the other: {check.observed})"
        yield Finding(cause=BEHAVIOUR[check.check], sentence=sentence, check=check.check)


def _differ(a: Check, b: Check) -> bool:
    """Whether two findings contradict each other. A refusal is no fault of what is done, and what
    is unknown cannot differ."""
    if a.value is None or b.value is None or "refused" in (a.value, b.value):
        return False
    if "absent" in (a.value, b.value):  # the strict shape has no such member
        return False
    if a.check == "echo":  # the strict shape has no null and leaves the first token out
        return isinstance(a.value, str) or isinstance(b.value, str)
    return a.value != b.value


# --- distributions into texts ---------------------------------------------------------------------


def _greedy(e: Evidence, found: list[Finding]) -> list[Finding]:
    """Greedy texts that part although nothing above explains it."""
    if EXPLAINING & {f.cause for f in found}:
        return []
    splits = [g for g in e.greedy if not g.same and not g.gap < _tie(e)]
    if not splits:
        return []
    gaps = [g.gap for g in splits if not math.isnan(g.gap)]
    size = f", where the other prefers its token by {max(gaps):.2g} nats" if gaps else ""
    sentence = (
        f"greedy texts part for {len(splits)} of {len(e.greedy)} prompts{size}: temperature 0 is "
        "not greedy there, or a penalty acts that nobody asked for"
    )
    return [Finding(cause="greedy", sentence=sentence)]


def _tie(e: Evidence) -> float:
    return max(TIE, 10 * _worst(e.scored))


def _echo(e: Evidence) -> Iterator[Finding]:
    for name, gap in e.contradicting.items():
        sentence = f"echo scores of {name} are not those of its own generation: off by {gap:.2g}"
        yield Finding(cause="echo scores", sentence=f"{sentence} nats")


def corrected(e: Evidence) -> list[tuple[Sampled, str, float]]:
    """Every test of samples with its corrected p-value: setting, `kernel` or `first tokens`, p.

    Each of the two families is corrected by Holm's method and then doubled, so that any false alarm
    at all among both has at most the probability `alpha`.
    """
    kernels = holm([s.kernel.p for s in e.sampled])
    found = [(s, "kernel", min(1.0, 2 * p)) for s, p in zip(e.sampled, kernels, strict=True)]
    tests = [(s, test) for s in e.sampled for test in s.counts]
    for (s, _), p in zip(tests, holm([test.p for _, test in tests]), strict=True):
        found.append((s, "first tokens", min(1.0, 2 * p)))
    return found


def _samples(e: Evidence, found: list[Finding]) -> Iterator[Finding]:
    alarms: dict[str, float] = {}
    for s, _, p in corrected(e):
        if p <= e.alpha:
            alarms[s.setting] = min(p, alarms.get(s.setting, 1.0))
    if not alarms:
        return
    size = max((s.kernel.effect for s in e.sampled if s.setting in alarms), default=0.0)
    seen = f"corrected p {min(alarms.values()):.1g}, squared discrepancy {size:.2g}"
    causes = {f.cause for f in found}
    where = ", ".join(alarms)
    if causes & {*EXPLAINING, "top_p", "truncated logprobs", "greedy"}:
        sentence = f"samples differ as well ({where}; {seen})"
        yield Finding(cause="sampling", sentence=sentence, p=min(alarms.values()))
    elif set(alarms) == {"defaults"}:
        sentence = f"hidden defaults: samples differ where nothing but the prompt is given ({seen})"
        yield Finding(cause="defaults", sentence=sentence, p=min(alarms.values()))
    elif set(alarms) == {"top_p"}:
        sentence = f"top_p: samples differ only where it is below 1 ({seen})"
        yield Finding(cause="top_p", sentence=sentence, p=min(alarms.values()))
    else:
        sentence = (
            f"sampling: samples differ ({where}; {seen}), as if the temperature, a truncation or a "
            "penalty were another than asked"
        )
        yield Finding(cause="sampling", sentence=sentence, p=min(alarms.values()))
