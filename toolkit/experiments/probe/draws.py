"""Checks of the draw: seeds, company in the batch, penalties, bias, several candidates."""

from __future__ import annotations

from toolkit.errors import InvalidRequest, TargetError
from toolkit.experiments.probe.report import AS_EXPECTED, DIFFERS, REFUSED, UNKNOWN, Check
from toolkit.experiments.probe.subject import LENGTH, OTHER, SEED, Subject
from toolkit.experiments.reading import Choice, choices

PENALTY = 2.0
REPEATS = 4


def several(s: Subject) -> Check:
    """Does `n` give that many choices, drawn apart?"""
    name, expected = "n", "4 choices that differ"
    texts = [c.text for c in s.seeded]
    right = len(texts) == 4 and len(set(texts)) > 1
    observed = f"{len(texts)} choices, {len(set(texts))} different"
    verdict = AS_EXPECTED if right else DIFFERS
    return Check(check=name, expected=expected, observed=observed, verdict=verdict, value=right)


def seed(s: Subject) -> Check:
    """Does a seed fix the draw, and another seed change it?"""
    name, expected = "seed", "the same seed draws the same, another one does not"
    first = [c.text for c in s.seeded]
    again = [c.text for c in _drawn(s, SEED)]
    other = [c.text for c in _drawn(s, SEED + 1)]
    if first == again == other:
        seen = "all draws are the same, whatever the seed"
        verdict = UNKNOWN if len(set(first)) == 1 else DIFFERS
        return Check(check=name, expected=expected, observed=seen, verdict=verdict, value="fixed")
    if first != again:
        seen = f"ignored: {sum(a == b for a, b in zip(first, again, strict=False))} of {len(first)}"
        return Check(
            check=name,
            expected=expected,
            observed=f"{seen} choices came again",
            verdict=DIFFERS,
            value="ignored",
        )
    return Check(
        check=name, expected=expected, observed="honoured", verdict=AS_EXPECTED, value="honoured"
    )


def _drawn(s: Subject, seed: int) -> list[Choice]:
    return s.read(temperature=1, max_tokens=LENGTH, n=4, seed=seed, logprobs=s.logprobs(1))


def company(s: Subject) -> Check:
    """Does a seeded prompt get the same text alone and in a list?"""
    name, expected = "alone and in a list", "the same text"
    alone, again = (s.read(temperature=1, max_tokens=LENGTH, seed=SEED)[0].text for _ in range(2))
    if alone != again:
        seen = "the seed is ignored, so nothing can be the same"
        return Check(check=name, expected=expected, observed=seen, verdict=UNKNOWN)
    listed = s.read([OTHER, s.prompt, OTHER], temperature=1, max_tokens=LENGTH, seed=SEED)
    same = len(listed) == 3 and listed[1].text == alone
    observed = expected if same else f"{alone!r:.30} and {listed[1:2] and listed[1].text!r:.30}"
    verdict = AS_EXPECTED if same else DIFFERS
    return Check(check=name, expected=expected, observed=observed, verdict=verdict, value=same)


def penalties(s: Subject) -> Check:
    """Do penalties count the tokens of the prompt?"""
    name, expected = "penalties", "count the completion only"
    first = choices(s.greedy)[0].text
    prompt = f"{s.prompt}{first}\n" * REPEATS + s.prompt
    plain = s.read(prompt, temperature=0, max_tokens=LENGTH)[0].text
    # The first tokens of a completion cannot have been generated before: only a count of the
    # prompt, where they stand several times, can change the first one.
    head = s.read(prompt, temperature=0, max_tokens=1)[0].text
    if not head or head not in prompt:
        seen = f"the greedy token {head!r} is not in the prompt"
        return Check(check=name, expected=expected, observed=seen, verdict=UNKNOWN)
    most = s.read(
        prompt, temperature=0, max_tokens=1, frequency_penalty=PENALTY, presence_penalty=PENALTY
    )[0].text
    if most != head:
        observed, value = f"count the prompt: {head!r} became {most!r}", "prompt"
        return Check(check=name, expected=expected, observed=observed, verdict=DIFFERS, value=value)
    biased = s.read(prompt, temperature=0, max_tokens=LENGTH, frequency_penalty=PENALTY)[0].text
    told = "" if biased != plain else "; no effect seen on this text"
    return Check(
        check=name,
        expected=expected,
        observed=f"{expected}{told}",
        verdict=AS_EXPECTED,
        value="completion",
    )


def bias(s: Subject) -> Check:
    """Does a `logit_bias` of 100 force a token, and one of -100 forbid it?"""
    name, expected = "logit_bias ±100", "forces and forbids a token"
    greedy = choices(s.greedy)[0].completion
    word = greedy[0].data.decode(errors="replace") if greedy else " the"
    ids = s.tokenize(word)
    token = greedy[0].id if greedy and greedy[0].id is not None else ids[-1] if ids else None
    if token is None or not word:
        seen = "nobody tells the id of a token that has text"
        return Check(check=name, expected=expected, observed=seen, verdict=UNKNOWN)
    try:
        forced = s.read(temperature=1, max_tokens=4, logit_bias={str(token): 100}, seed=SEED)
        barred = s.read(temperature=0, max_tokens=1, logit_bias={str(token): -100})
    except (InvalidRequest, TargetError) as error:
        return Check(
            check=name,
            expected=expected,
            observed=f"refused: {error}"[:120],
            verdict=REFUSED,
            value="refused",
        )
    text = forced[0].text
    forces = bool(text) and text == text[: len(text) // 4] * 4
    forbids = barred[0].text != word
    found = [w for w, it in (("forces", forces), ("forbids", forbids)) if it]
    right = forces and forbids
    return Check(
        check=name,
        expected=expected,
        observed=f"{' and '.join(found) or 'no effect'} ({text!r:.40})",
        verdict=AS_EXPECTED if right else DIFFERS,
        value=[forces, forbids],
    )


def best_of(s: Subject) -> Check:
    """Does `best_of` give the candidate with the best mean log-probability?"""
    name, expected = "best_of", "the best of that many by mean log-probability"
    try:
        found = s.read(temperature=1, max_tokens=LENGTH, n=1, best_of=4, seed=SEED)
    except (InvalidRequest, TargetError):
        return Check(
            check=name, expected=expected, observed="refused", verdict=REFUSED, value="refused"
        )
    means = [(_mean(c), c.text) for c in s.seeded]
    texts, best = [text for _, text in means], max(means)[1]
    if len(texts) < 4 or found[0].text not in texts:
        seen = "taken, but what it does cannot be told without `n` and a seed"
        return Check(check=name, expected=expected, observed=seen, verdict=UNKNOWN)
    place = texts.index(found[0].text)
    right = found[0].text == best
    observed = expected if right else f"candidate {place}, which is not the best"
    if right and place == 0:
        observed += "; it happens to be the first, so that ignoring it would look the same"
    return Check(
        check=name,
        expected=expected,
        observed=observed,
        verdict=AS_EXPECTED if right else DIFFERS,
        value="best" if right else "other",
    )


def _mean(choice: Choice) -> float:
    known = [t.logprob for t in choice.completion if t.logprob is not None]
    return sum(known) / len(known) if known else float("-inf")
