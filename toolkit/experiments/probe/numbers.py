"""Checks of log-probabilities: of which distribution they are, and what truncates the draw."""

from __future__ import annotations

import math

from toolkit.experiments.probe.report import AS_EXPECTED, DIFFERS, UNKNOWN, Check
from toolkit.experiments.probe.subject import DRAWS, FLAT, PROMPT, Subject

SAME = 0.05
"""Log-probabilities that differ by less are one: 16-bit arithmetic is not more exact."""
COOL = 0.5
UNSEEN = "not seen"
RISK = 1e-6
"""Largest probability that chance alone hides a token that could be drawn."""


def under_temperature(s: Subject) -> Check:
    """Do log-probabilities change with temperature, and what are they at temperature 0?"""
    name, expected = "logprobs under temperature", "unscaled at any temperature"
    raw, cool = s.plain, s.distribution(temperature=COOL, top_p=1)
    shared = sorted(raw.keys() & cool.keys(), key=lambda key: -raw[key])
    if not shared or abs(raw[shared[0]]) < 2 * SAME:
        seen = f"{len(shared)} tokens seen at both temperatures; give a `prompt` with more choice"
        return Check(check=name, expected=expected, observed=seen, verdict=UNKNOWN)
    value, words = _scale(raw, cool, shared)
    at_zero = _at_zero(raw, s.distribution(temperature=0, top_p=1))
    right = value == "raw" and at_zero in ("unscaled", UNSEEN)
    return Check(
        check=name,
        expected=expected,
        observed=f"{words}; at temperature 0 {at_zero}",
        verdict=AS_EXPECTED if right else DIFFERS,
        value=None if right and at_zero == UNSEEN else [value, at_zero],
    )


def _scale(
    raw: dict[bytes, float], cool: dict[bytes, float], shared: list[bytes]
) -> tuple[str, str]:
    if all(abs(raw[key] - cool[key]) < SAME for key in shared):
        return "raw", "unscaled"
    best, rest = shared[0], shared[1:]
    x = [raw[key] - raw[best] for key in rest]
    y = [cool[key] - cool[best] for key in rest]
    squares = sum(a * a for a in x)
    if squares < SAME:
        return "scaled", f"they change with temperature (p of the best {math.exp(cool[best]):.2f})"
    slope = sum(a * b for a, b in zip(x, y, strict=True)) / squares
    if abs(slope * COOL - 1) < 0.1:
        return "scaled", f"divided by the temperature (slope {slope:.2f} at {COOL})"
    return "other", f"they change with temperature, slope {slope:.2f} at {COOL}"


def _at_zero(raw: dict[bytes, float], zero: dict[bytes, float]) -> str:
    shared = raw.keys() & zero.keys()
    if not shared:
        return UNSEEN
    if all(abs(raw[key] - zero[key]) < SAME for key in shared):
        return "unscaled"
    return "certain: the best has 0" if max(zero.values()) > -1e-3 else "something else"


def under_top_p(s: Subject) -> Check:
    """Do log-probabilities change with `top_p`?"""
    name, expected = "logprobs under top_p", "before truncation"
    raw = s.plain
    best = max(raw, key=lambda key: raw[key], default=None)
    if best is None or abs(raw[best]) < 2 * SAME:
        seen = "nothing to tell them apart after this prompt"
        return Check(check=name, expected=expected, observed=seen, verdict=UNKNOWN)
    # Small enough that only the best token is left.
    cut = s.distribution(temperature=1, top_p=math.exp(raw[best]) / 2)
    if best not in cut:  # the end of the text, which many answers do not show
        seen = "the likeliest token is not shown"
        return Check(check=name, expected=expected, observed=seen, verdict=UNKNOWN)
    same = abs(raw[best] - cut[best]) < SAME
    observed = expected if same else "after truncation, of the tokens that are left"
    verdict = AS_EXPECTED if same else DIFFERS
    return Check(
        check=name,
        expected=expected,
        observed=observed,
        verdict=verdict,
        value="before" if same else "after",
    )


def nucleus(s: Subject) -> Check:
    """Which tokens does `top_p` leave? Exactly those whose mass just reaches it."""
    name, expected = "top_p", "the smallest set with that mass"
    prompt, (first, second, third) = _flattest(s)
    if not second[1]:
        seen = "fewer than two likely tokens are shown"
        return Check(check=name, expected=expected, observed=seen, verdict=UNKNOWN)
    keep = first[1] + second[1] / 2
    drawn = s.draws(DRAWS, prompt, temperature=1, top_p=keep)
    others = set(drawn) - {first[0], second[0]}
    hidden = (first[1] / (first[1] + second[1])) ** len(drawn)
    sizes = f"top_p {keep:.3f} over {first[1]:.3f}, {second[1]:.3f}, {third[1]:.3f}"
    if others:
        what, value = "and tokens beyond them", "wide"
    elif second[0] in drawn:
        what, value = "the two that reach it", "exact"
    elif hidden > RISK:
        seen = f"one token in {len(drawn)} draws, which may be chance ({sizes})"
        return Check(check=name, expected=expected, observed=seen, verdict=UNKNOWN)
    else:
        what, value = (
            "not the one that crosses it: one too few, or another truncation comes first",
            "narrow",
        )
    observed = f"{sizes}: {len(set(drawn))} tokens drawn, {what}"
    verdict = AS_EXPECTED if value == "exact" else DIFFERS
    return Check(check=name, expected=expected, observed=observed, verdict=verdict, value=value)


def _flattest(s: Subject) -> tuple[str, list[tuple[bytes, float]]]:
    """The prompt after which a wrong set of two is easiest to see, and its three likeliest
    tokens."""
    found = []
    for prompt in FLAT if s.prompt == PROMPT else (s.prompt,):
        known = s.plain if prompt == s.prompt else s.distribution(prompt, temperature=1, top_p=1)
        best = sorted(((key, math.exp(p)) for key, p in known.items()), key=lambda pair: -pair[1])
        best += [(b"", 0.0)] * (3 - len(best))
        one, two, three = (p for _, p in best[:3])
        both = two / (one + two) if two else 0.0
        found.append((min(both, 2 * three / (one + two + three) if one else 0.0), prompt, best[:3]))
        if both > 0.3 and three > 0.1:
            break
    _, prompt, best = max(found, key=lambda item: item[0])
    return prompt, best


def alternatives(s: Subject) -> Check:
    """How many alternatives does a token show, and is it among them?"""
    asked = 1 if s.strict else 5
    name = f"logprobs {'true' if s.strict else asked}"
    expected = f"the {asked} best, and the token itself"
    tokens = [t for c in s.read(temperature=1, max_tokens=8, seed=7, logprobs=s.logprobs(5))
              for t in c.completion]  # fmt: skip
    counts = sorted({len(token.top) for token in tokens})
    if not tokens or counts == [0]:
        return Check(check=name, expected=expected, observed="none", verdict=DIFFERS, value="none")
    right = set(counts) <= {asked, asked + 1}
    observed = f"{counts[0]} to {counts[-1]}" if len(counts) > 1 else str(counts[0])
    return Check(
        check=name,
        expected=expected,
        observed=f"{observed} for {len(tokens)} tokens",
        verdict=AS_EXPECTED if right else DIFFERS,
        value="right" if right else "other",
    )
