"""Checks of texts: forms of the prompt, echo and its numbers, offsets, stops, lengths."""

from __future__ import annotations

from itertools import accumulate

from toolkit.analysis.frames.sequence import spans
from toolkit.errors import InvalidRequest, TargetError
from toolkit.experiments.forcing import scores
from toolkit.experiments.probe.report import AS_EXPECTED, DIFFERS, REFUSED, UNKNOWN, Check
from toolkit.experiments.probe.subject import LENGTH, OTHER, Subject
from toolkit.experiments.reading import Choice, arrays, choices, usage

ACCENTS = "Né à 東京 🙂, she"
"""A prompt in which characters and bytes count differently."""
CLOSE = 0.05


def prompt_forms(s: Subject) -> Check:
    """Which of the four forms of a prompt are taken, and in which order do answers come?"""
    name, expected = "prompt forms", "text, list of texts, ids, list of ids; answers in order"
    alone = choices(s.greedy)[0].text
    forms = {"list of texts": [OTHER, s.prompt]}
    if s.ids:
        forms |= {"ids": s.ids, "list of ids": [s.ids[-1:], s.ids]}
    taken, odd = ["text"], []
    for form, prompt in forms.items():
        try:
            texts = [c.text for c in s.read(prompt, temperature=0, max_tokens=LENGTH)]
        except (InvalidRequest, TargetError):
            continue
        count = len(forms["list of texts"]) if form.startswith("list") else 1
        right = len(texts) == count and texts[-1] == alone
        (taken if right else odd).append(form)
    observed = ", ".join(taken) + (f"; other answers for {', '.join(odd)}" if odd else "")
    if not s.ids:
        observed += "; ids not tried: nobody tells them"
    whole = len(taken) == 1 + len(forms)
    return Check(
        check=name,
        expected=expected,
        observed=observed,
        verdict=AS_EXPECTED if whole else DIFFERS,
        value=[taken, odd],
    )


def prompt_tokens(s: Subject) -> Check:
    """Does the model see as many tokens as the tokenizer gives?"""
    name, expected = "prompt tokens", "as many as its tokenizer gives"
    counted = usage(s.greedy, "prompt_tokens")
    if counted is None or s.ids is None:
        seen = "no `usage`" if counted is None else "no route that tokenises"
        return Check(check=name, expected=expected, observed=seen, verdict=UNKNOWN)
    more = counted - len(s.ids)
    observed = f"{counted} used, {len(s.ids)} from the tokenizer"
    verdict = AS_EXPECTED if more == 0 else DIFFERS
    return Check(check=name, expected=expected, observed=observed, verdict=verdict, value=more)


def echo(s: Subject) -> Check:
    """Does `echo` give back the prompt, with an entry for each token, the first one null?"""
    name = "echo"
    expected = "prompt in front" + (
        "" if s.strict else "; every token has an entry, the first null"
    )
    answer = s.ask(echo=True, temperature=0, max_tokens=1, logprobs=s.logprobs(1))
    choice = choices(answer)[0]
    if not choice.text.startswith(s.prompt):
        seen = "ignored: the prompt is not in the text"
        return Check(check=name, expected=expected, observed=seen, verdict=DIFFERS, value="ignored")
    if not choice.tokens:
        seen = "the prompt, but no log-probabilities"
        return Check(
            check=name, expected=expected, observed=seen, verdict=DIFFERS, value="no numbers"
        )
    shown = b"".join(token.data for token in choice.tokens)
    whole = shown.decode(errors="replace").startswith(s.prompt)
    first = choice.tokens[0].logprob
    coverage = "every token" if whole else "not the first tokens"
    observed = f"prompt in front; entries for {coverage}, the first {_or_null(first)}"
    right = (whole and first is None) or s.strict
    return Check(
        check=name,
        expected=expected,
        observed=observed,
        verdict=AS_EXPECTED if right else DIFFERS,
        value=[whole, first is None],
    )


def _or_null(value: float | None) -> str:
    return "null" if value is None else "a number"


def rescoring(s: Subject) -> Check:
    """Does `echo` give a text the log-probabilities that it had when it was generated?"""
    name, expected = "echo scores", "those of generation"
    made = choices(s.greedy)[0]
    ids = [token.id for token in made.completion]
    known = s.ids is not None and ids and None not in ids
    texts = [[*(s.ids or ()), *ids]] if known else []
    found = (scores(s, text) for text in (*texts, s.prompt + made.text))
    scored = next((tokens for tokens in found if tokens), [])
    count = len(made.completion)
    pairs = [
        (a.logprob, b.logprob)
        for a, b in zip(made.completion, scored[-count:] if count else [], strict=False)
        if a.data == b.data and a.logprob is not None and b.logprob is not None
    ]
    if len(pairs) < max(1, count // 2):
        seen = f"{len(pairs)} of {count} tokens can be compared"
        verdict = UNKNOWN if scored else DIFFERS
        value = None if scored else "none"
        return Check(check=name, expected=expected, observed=seen, verdict=verdict, value=value)
    worst = max(abs(a - b) for a, b in pairs)
    same = worst < CLOSE
    return Check(
        check=name,
        expected=expected,
        observed=f"largest difference {worst:.2g} over {len(pairs)} tokens",
        verdict=AS_EXPECTED if same else DIFFERS,
        value="same" if same else "other",
    )


def offsets(s: Subject) -> Check:
    """What does `text_offset` count, and from where?"""
    name, expected = "text_offset", "characters of the returned text"
    if s.strict:
        seen = "the strict shape has none"
        return Check(
            check=name, expected="absent", observed=seen, verdict=AS_EXPECTED, value="absent"
        )
    answer = s.ask(ACCENTS, echo=True, temperature=0, max_tokens=1, logprobs=1)
    told, choice = arrays(answer).get("text_offset"), choices(answer)[0]
    if not told or len(told) != len(choice.tokens):
        return Check(check=name, expected=expected, observed="none", verdict=DIFFERS, value="none")
    spelled = b"".join(token.data for token in choice.tokens)
    if not choice.text.encode().endswith(spelled):
        seen = "its tokens do not spell the text: characters of several tokens are lost"
        return Check(check=name, expected=expected, observed=seen, verdict=DIFFERS, value="lossy")
    unit = _unit(list(told), choice)
    start = arrays(s.greedy).get("text_offset") or [0]
    origin = "" if start[0] == 0 else "; without echo they start after the prompt"
    right = unit == "characters" and not origin
    return Check(
        check=name,
        expected=expected,
        observed=f"{unit} {told[-3:]}{origin}",
        verdict=AS_EXPECTED if right else DIFFERS,
        value=[unit, bool(origin)],
    )


def _unit(told: list[int], choice: Choice) -> str:
    """Characters, bytes or something else, by the places of the tokens in the text."""
    pieces = [token.data for token in choice.tokens]
    missing = len(choice.text.encode()) - len(b"".join(pieces))
    lead = choice.text.encode()[: max(0, missing)]  # a first token that has no entry
    characters = [start for start, _ in spans([lead, *pieces])][1:]
    ends = list(accumulate((len(piece) for piece in pieces), initial=len(lead)))
    if told == characters:
        return "characters"
    return "bytes" if told == ends[:-1] else "something else"


def stops(s: Subject) -> Check:
    """Is the stop left out, and does the earliest of several win?"""
    name, expected = "stop", "left out; the earliest in the text wins"
    text = choices(s.greedy)[0].text
    early, late = _two_parts(text)
    if not early:
        seen = f"the greedy text is too short for it: {text!r:.40}"
        return Check(check=name, expected=expected, observed=seen, verdict=UNKNOWN)
    found = s.read(temperature=0, max_tokens=LENGTH, stop=[late, early])[0].text
    places = {
        "left out; the earliest wins": text[: text.index(early)],
        "kept in the text": text[: text.index(early) + len(early)],
        "left out; the first of the list wins": text[: text.index(late)],
        "ignored": text,
    }
    value = next((words for words, cut in places.items() if found == cut), f"{found!r:.40}")
    return Check(
        check=name,
        expected=expected,
        observed=value,
        verdict=AS_EXPECTED if value == next(iter(places)) else DIFFERS,
        value=value,
    )


def _two_parts(text: str) -> tuple[str, str]:
    """An earlier and a later part of a text, as far apart as can be; "" where it is too short."""
    for length in (3, 2, 1):
        parts = [text[i : i + length] for i in range(1, len(text) - length + 1)]
        found = [(text.index(part), part) for part in dict.fromkeys(parts) if "\ufffd" not in part]
        found = [(place, part) for place, part in found if place > 0]
        if found and max(found)[0] >= min(found)[0] + length:
            return min(found)[1], max(found)[1]
    return "", ""


def no_tokens(s: Subject) -> Check:
    """What does `max_tokens` 0 do?"""
    name, expected = "max_tokens 0", "nothing is generated"
    try:
        answer = s.ask(temperature=0, max_tokens=0)
    except (InvalidRequest, TargetError):
        return Check(
            check=name, expected=expected, observed="refused", verdict=REFUSED, value="refused"
        )
    made, text = usage(answer, "completion_tokens"), choices(answer)[0].text
    nothing = not text and made in (0, None)
    observed = expected if nothing else f"{made} tokens: {text!r:.40}"
    return Check(
        check=name,
        expected=expected,
        observed=observed,
        verdict=AS_EXPECTED if nothing else DIFFERS,
        value="nothing" if nothing else "something",
    )
