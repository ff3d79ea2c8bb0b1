"""Checks of the protocol: what is refused and how, streams, guided choice, suffix."""

from __future__ import annotations

import json

from toolkit.errors import InvalidRequest, TargetError
from toolkit.experiments.probe.report import AS_EXPECTED, DIFFERS, REFUSED, UNKNOWN, Check
from toolkit.experiments.probe.subject import LENGTH, Subject
from toolkit.experiments.reading import choices
from toolkit.experiments.target import Streaming

LABELS = ("joy", "sadness 東")
STRICT = ("status", "title", "detail")


def unknown_field(s: Subject) -> Check:
    """Is a field that nobody knows refused?"""
    name, expected = "unknown field", "refused"
    try:
        s.ask(max_tokens=1, no_such_field=1)
        observed = "ignored"
    except (InvalidRequest, TargetError):
        observed = "refused"
    verdict = AS_EXPECTED if observed == expected else DIFFERS
    return Check(check=name, expected=expected, observed=observed, verdict=verdict, value=observed)


def error_shape(s: Subject) -> Check:
    """What does a wrong value get?"""
    name, expected = "error", "400 that names the field"
    try:
        s.ask(max_tokens=1, temperature=-1)
    except InvalidRequest as error:
        right = "temperature" in error.message
        return Check(
            check=name,
            expected=expected,
            observed="InvalidRequest that names it" if right else str(error)[:80],
            verdict=AS_EXPECTED if right else DIFFERS,
            value="python",
        )
    except TargetError as error:
        shape = _shape(error.body)
        names = "temperature" in error.body
        wanted = "specification's" if s.strict else "OpenAI's"
        right = error.code == 400 and names and shape == wanted
        observed = f"{error.code}, {shape} shape, {'names it' if names else 'does not name it'}"
        verdict = AS_EXPECTED if right else DIFFERS
        return Check(
            check=name,
            expected=f"{expected}, {wanted} shape",
            observed=observed,
            verdict=verdict,
            value=[error.code, shape, names],
        )
    seen = "temperature -1 is taken"
    return Check(check=name, expected=expected, observed=seen, verdict=DIFFERS, value="taken")


def _shape(text: str) -> str:
    try:
        body = json.loads(text)
    except ValueError:
        return "no JSON"
    if isinstance(body, dict) and set(STRICT) <= body.keys():
        return "specification's"
    error = body.get("error") if isinstance(body, dict) else None
    return "OpenAI's" if isinstance(error, dict) and "message" in error else "another"


def guided(s: Subject) -> Check:
    """Is the text one of the choices?"""
    name, expected = "guided_choice", "the text is one of them"
    listed = list(LABELS)
    spellings = {"guided_choice": listed, "structured_outputs": {"choice": listed}}
    if s.strict:
        del spellings["structured_outputs"]
    ignored = None
    for field, value in spellings.items():
        try:
            text = s.read(temperature=1, max_tokens=24, seed=1, **{field: value})[0].text
        except (InvalidRequest, TargetError):
            continue
        if text in LABELS:
            return Check(
                check=name,
                expected=expected,
                observed=f"{field}: {text!r}",
                verdict=AS_EXPECTED,
                value=field,
            )
        ignored = ignored or f"{field} ignored: {text!r:.40}"
    if ignored:
        return Check(
            check=name, expected=expected, observed=ignored, verdict=DIFFERS, value="ignored"
        )
    return Check(
        check=name, expected=expected, observed="refused", verdict=REFUSED, value="refused"
    )


def suffix(s: Subject) -> Check:
    """What does `suffix` do?"""
    name, expected = "suffix", "infills, is appended, or is refused"
    plain, end = choices(s.greedy)[0].text, " THE END"
    try:
        text = s.read(temperature=0, max_tokens=LENGTH, suffix=end)[0].text
    except (InvalidRequest, TargetError):
        return Check(
            check=name, expected=expected, observed="refused", verdict=REFUSED, value="refused"
        )
    ways = {plain + end: "appended", plain: "ignored"}
    value = ways.get(text, "infills: the text is another")
    verdict = DIFFERS if value == "ignored" else AS_EXPECTED
    return Check(check=name, expected=expected, observed=value, verdict=verdict, value=value)


def stream(s: Subject) -> Check:
    """Do the pieces of a stream add up, and how does it end?"""
    name, expected = "stream", "the same text in pieces, whole characters, usage, [DONE]"
    if not isinstance(s.target, Streaming):
        seen = "this target gives no pieces"
        return Check(check=name, expected=expected, observed=seen, verdict=UNKNOWN)
    s.requests += 1
    fields = {"prompt": s.prompt, "temperature": 0, "max_tokens": LENGTH}
    events = s.target.stream({**fields, "stream_options": {"include_usage": True}})
    pieces = [c.get("text") or "" for e in events.chunks for c in e.get("choices") or ()]
    whole = choices(s.greedy)[0].text
    faults = []
    if "".join(pieces) != whole:
        faults.append(f"another text: {''.join(pieces)!r:.40}")
    if "\ufffd" in "".join(pieces) and "\ufffd" not in whole:
        faults.append("characters cut apart")
    if not any(event.get("usage") for event in events.chunks):
        faults.append("no usage")
    if not events.done:
        faults.append("no [DONE]")
    if events.content_type and "text/event-stream" not in events.content_type:
        faults.append(f"content type {events.content_type}")
    observed = ", ".join(faults) or f"{len(events.chunks)} events, as expected"
    verdict = DIFFERS if faults else AS_EXPECTED
    return Check(check=name, expected=expected, observed=observed, verdict=verdict, value=faults)


def split_characters(s: Subject) -> Check:
    """Does a character of several tokens arrive whole in a stream?"""
    name, expected = "characters in streams", "arrive whole"
    text = "日本🙂 "
    ids = s.tokenize(text)
    if not isinstance(s.target, Streaming) or not ids:
        seen = "nobody tells ids, or there are no pieces"
        return Check(check=name, expected=expected, observed=seen, verdict=UNKNOWN)
    s.requests += 1
    fields = {"prompt": s.prompt, "max_tokens": 24, "temperature": 0, "guided_choice": [text]}
    try:
        events = s.target.stream(fields)
    except (InvalidRequest, TargetError):
        seen = "guided_choice is refused, so that such characters cannot be forced"
        return Check(check=name, expected=expected, observed=seen, verdict=UNKNOWN)
    pieces = [c.get("text") or "" for e in events.chunks for c in e.get("choices") or ()]
    if "".join(pieces).strip() != text.strip() and "\ufffd" not in "".join(pieces):
        seen = "guided_choice is ignored, so that such characters cannot be forced"
        return Check(check=name, expected=expected, observed=seen, verdict=UNKNOWN)
    whole = "".join(pieces) == text
    return Check(
        check=name,
        expected=expected,
        observed=expected if whole else "cut apart",
        verdict=AS_EXPECTED if whole else DIFFERS,
        value=whole,
    )
