"""A text with each of its tokens coloured by what the model thought of it, as HTML.

Model output is hostile: every token is escaped, controls are spelled out, the direction of text is
isolated. Styles are inline, so that a notebook keeps them. Colour lies under the text at part
opacity, on a light page as on a dark one, and the underline says the same without colour.
Whitespace is marked by characters that are not copied.
"""

from __future__ import annotations

import html
import math
from collections.abc import Iterator, Mapping
from typing import Any

import pandas as pd

from toolkit.analysis.scale import HUE, OPACITY, Scale, present, scale_of, short, value_of
from toolkit.analysis.visible import LITERAL, MARKS, is_control, label, spelled, whole

LIMIT = 200_000
"""Bytes of HTML, about what a notebook saves gladly."""
SHOWN = 5
"""Alternatives in the hover text."""
UNSELECTABLE = "-webkit-user-select:none;user-select:none"


def to_html(
    tokens: pd.DataFrame,
    candidates: pd.DataFrame | None = None,
    *,
    color: str = "probability",
    numbers: bool = False,
    limit: int = LIMIT,
    omitted: int = 0,
) -> str:
    """A token frame as HTML, one block a choice.

    `candidates`: the frame of that name; its alternatives join the hover text. `color`:
    "probability", "surprisal", "rank" or "entropy". `numbers`: print the value under each token.
    At most `limit` bytes; what does not fit, and `omitted` tokens that the frame lacks, are counted
    at the end.
    """
    scale = scale_of(color)
    others = _by_position(candidates)
    blocks = [_legend(scale)]
    room, left = limit - len(blocks[0].encode()) - 1000, len(tokens) + omitted
    for title, part in _choices(tokens):
        spans: list[str] = []
        room -= 600
        for span in _spans(part, others, scale, numbers=numbers):
            room -= len(span.encode())
            if room < 0:
                break
            spans.append(span)
            left -= 1
        blocks.append(_block(title, spans))
        if room < 0:
            break
    if left:
        blocks.append(f'<div style="opacity:.7">… {left:,} more tokens</div>')
    return f'<div {LITERAL} style="line-height:1.9">{"".join(blocks)}</div>'


def _choices(tokens: pd.DataFrame) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """A title, empty if there is one choice only, and the rows of each choice."""
    keys = ["request_id", "prompt_index", "choice_index"]
    groups = list(tokens.groupby(keys, dropna=False, sort=False))
    for _, part in groups:
        title = f"choice {part['choice_index'].iloc[0]}" if len(groups) > 1 else ""
        yield title, part.astype(object).to_dict("records")


def _by_position(candidates: pd.DataFrame | None) -> dict[Any, list[dict[str, Any]]]:
    found: dict[Any, list[dict[str, Any]]] = {}
    if candidates is not None:
        for row in candidates.astype(object).to_dict("records"):
            found.setdefault(_place(row), []).append(row)
    return found


def _place(row: Mapping[str, Any]) -> tuple[str, int, int]:
    return str(row["request_id"]), row["choice_index"], row["position"]


def _block(title: str, spans: list[str]) -> str:
    head = f'<div style="opacity:.7;{UNSELECTABLE}">{html.escape(title)}</div>' if title else ""
    style = "font-family:monospace;white-space:pre-wrap;overflow-wrap:anywhere;margin:.2em 0 .6em"
    return f'{head}<div style="{style}">{"".join(spans)}</div>'


def _spans(
    rows: list[dict[str, Any]],
    others: dict[Any, list[dict[str, Any]]],
    scale: Scale,
    *,
    numbers: bool,
) -> Iterator[str]:
    before = None
    for row, text in whole(rows):
        segment = row["segment"]
        border = _marker(" ▏") if before == "prompt" and segment == "completion" else ""
        before = segment
        hover = _hover(row, others.get(_place(row), ()))
        yield border + _span(row, text, hover, scale, numbers=numbers)


def _span(row: Mapping[str, Any], text: str, hover: str, scale: Scale, *, numbers: bool) -> str:
    value = value_of(scale, row)
    number = scale.number(value) if numbers and value is not None else ""
    inner = _inner(row, text, _number(number))
    style = f"unicode-bidi:isolate;{_paint(None if value is None else scale.level(value))}"
    return f'<span title="{hover}" style="{style}">{inner}</span>'


def _paint(level: float | None) -> str:
    """Background and underline of a level; a missing value is dotted."""
    if level is None:
        return "border-bottom:1px dotted"
    rgba = f"{HUE[0]},{HUE[1]},{HUE[2]},{OPACITY * level:.2f}"
    width = round(3 * level)
    line = f";border-bottom:{width}px solid rgb({HUE[0]},{HUE[1]},{HUE[2]})" if width else ""
    return f"background:rgba({rgba}){line}"


def _inner(row: Mapping[str, Any], text: str, number: str) -> str:
    """The token and its number, which stands before a line end that the token brings."""
    if row.get("special") is True and present(row["text_start"]) == present(row["text_end"]):
        return _marker(label(row), opacity=0.8) + number  # in no text, so not copied
    if not text:
        return _marker("◦") + number
    line = text.rstrip("\n")
    return "".join(map(_character, line)) + number + "".join(map(_character, text[len(line) :]))


def _number(text: str) -> str:
    style = "font-size:.6em;vertical-align:sub;opacity:.75;padding:0 .2em"
    return f'<span style="{style};{UNSELECTABLE}">{html.escape(text)}</span>' if text else ""


def _character(character: str) -> str:
    """A character; whitespace under a mark of the same width, which is not copied."""
    if mark := MARKS.get(character):
        # The mark takes one column and gives it back, so that the space itself is under it.
        return _marker(mark, "margin-right:-1ch;" if character != "\n" else "") + character
    if is_control(character):
        return _marker(spelled(character))
    return html.escape(character)


def _marker(text: str, style: str = "", opacity: float = 0.45) -> str:
    return f'<span style="{style}opacity:{opacity};{UNSELECTABLE}">{html.escape(text)}</span>'


# --- hover and legend -----------------------------------------------------------------------------


def _hover(row: Mapping[str, Any], alternatives: Any) -> str:
    lines = [
        f"{label(row)}   id {row['token_id']}"
        if present(row["token_id"]) is not None
        else label(row)
    ]
    lines.append(_facts(row))
    lines.append(_drawing(row))
    for item in alternatives[:SHOWN]:
        lines.append(_alternative(item))
    return "&#10;".join(html.escape(line) for line in lines if line)


def _facts(row: Mapping[str, Any]) -> str:
    facts = []
    if (logprob := present(row["logprob"])) is not None:
        facts += [f"p {short(math.exp(logprob))}", f"logprob {logprob:.3f}"]
    if (rank := present(row["rank"])) is not None:
        facts.append(f"rank {rank:.0f}")
    if (entropy := present(row["entropy"])) is not None:
        facts.append(f"entropy {entropy:.2f} nats")
    return " · ".join(facts) or "no log-probability"


def _drawing(row: Mapping[str, Any]) -> str:
    sampled, support = present(row["logprob_sampled"]), present(row["support"])
    facts = [] if sampled is None else [f"drawn with p {short(math.exp(sampled))}"]
    if support is not None:
        facts.append(f"out of {support:,.0f} tokens" if support > 1 else "the only one left")
    return " ".join(facts)


def _alternative(row: Mapping[str, Any]) -> str:
    logprob = present(row["logprob"])
    probability = "" if logprob is None else short(math.exp(logprob))
    fate = row["dropped_by"]
    dropped = f"   dropped by {fate}" if isinstance(fate, str) and fate != "none" else ""
    mark = "▸" if row["chosen"] is True else " "
    return f"{mark} {probability:>6}  {label(row)}{dropped}"


def _legend(scale: Scale) -> str:
    steps = "".join(
        f'<span style="padding:0 .5em;{_paint(scale.level(step))}">{scale.number(step)}</span> '
        for step in scale.steps
    )
    style = f"font-size:.85em;margin-bottom:.3em;{UNSELECTABLE}"
    return f'<div style="{style}"><span style="opacity:.7">{scale.unit}:</span> {steps}</div>'
