"""What an answer and a model show of themselves: in a notebook and in a terminal."""

from __future__ import annotations

import html
from collections.abc import Mapping
from typing import Any

from toolkit.analysis.frames.levels import candidate_frame, token_frame
from toolkit.analysis.frames.read import sequences
from toolkit.analysis.frames.sequence import Position, Sequence
from toolkit.analysis.heatmap import to_html
from toolkit.analysis.visible import LITERAL, is_control, spelled

MOST = 1000
"""Tokens that are drawn; 200 kB hold fewer with alternatives."""
CHARACTERS = 20_000
"""Characters of text that are shown."""


def answer_html(answer: Any) -> str:
    """The heat map where the answer has log-probabilities, else the text, and a line of facts."""
    read = sequences(answer)
    scored = any(p.chosen.logprob is not None for s in read for p in s.positions)
    body = _heat(read) if scored else "".join(_plain(sequence, len(read)) for sequence in read)
    line = f'<div style="font-size:.85em;opacity:.7">{html.escape(facts(read))}</div>'
    return f"<div {LITERAL}>{body}{line}</div>"


def answer_text(answer: Any) -> str:
    """The texts, one after the other, and a line of facts; controls spelled out."""
    read = sequences(answer)
    parts = []
    for sequence in read:
        title = f"[{sequence.choice_index}] " if len(read) > 1 else ""
        parts.append(title + _shown(sequence, len(read)))
    return "\n".join([*parts, f"-- {facts(read)}"])


def facts(read: list[Sequence]) -> str:
    """One line: how it ended, how many tokens, how fast, with which seed, from which model."""
    if not read:
        return "no choices"
    reasons = sorted({str(s.facts.get("finish_reason")) for s in read})
    counts = [s.facts.get("completion_tokens") for s in read]
    first = read[0].facts
    found = [f"{len(read)} choices" if len(read) > 1 else "", f"finish: {', '.join(reasons)}"]
    if None not in counts:
        found.append(f"{sum(count or 0 for count in counts):,} tokens")
    if (rate := first.get("tokens_per_second")) is not None:
        found.append(f"{rate:,.0f} tokens/s")
    found += [f"{name} {first[name]}" for name in ("seed", "model") if first.get(name) is not None]
    return " · ".join(part for part in found if part)


def table(title: str, rows: Mapping[str, str]) -> str:
    """A small table of names and values under a title."""
    cell = "padding:.1em .8em .1em 0;text-align:left"
    lines = "".join(
        f'<tr><td style="{cell};opacity:.7">{html.escape(name)}</td>'
        f'<td style="{cell}">{html.escape(value)}</td></tr>'
        for name, value in rows.items()
    )
    return f"<div {LITERAL}><b>{html.escape(title)}</b><table>{lines}</table></div>"


def _heat(read: list[Sequence]) -> str:
    shown, room = [], MOST
    for sequence in read:
        if room > 0:
            part = _in_text(sequence)[:room]
            shown.append(
                Sequence(
                    request_id=sequence.request_id,
                    prompt_index=sequence.prompt_index,
                    choice_index=sequence.choice_index,
                    positions=part,
                )
            )
            room -= len(part)
    total = sum(len(_in_text(sequence)) for sequence in read)
    kept = sum(len(sequence.positions) for sequence in shown)
    return to_html(token_frame(shown), candidate_frame(shown), omitted=total - kept)


def _in_text(sequence: Sequence) -> tuple[Position, ...]:
    """The tokens without those of a stop string, which were drawn and cut off again.

    Offsets count from the first one: some servers begin them at the prompt that they do not echo.
    """
    starts = [p.text_start for p in sequence.positions if p.text_start is not None]
    text = sequence.facts.get("text")
    if text is None or not starts:
        return sequence.positions
    end = starts[0] + len(text)
    return tuple(
        p for p in sequence.positions if p.special or p.text_start is None or p.text_start < end
    )


def _plain(sequence: Sequence, count: int) -> str:
    title = f'<div style="opacity:.7">choice {sequence.choice_index}</div>' if count > 1 else ""
    style = "white-space:pre-wrap;overflow-wrap:anywhere;unicode-bidi:isolate;margin:.2em 0 .6em"
    return f'{title}<div style="{style}">{html.escape(_shown(sequence, count))}</div>'


def _shown(sequence: Sequence, count: int) -> str:
    """The text without characters that would act on the terminal, cut where many share the room."""
    text, most = sequence.facts.get("text") or "", CHARACTERS // count
    safe = "".join(spelled(c) if is_control(c) and c != "\ufeff" else c for c in text[:most])
    return safe if len(text) <= most else f"{safe} … {len(text) - most:,} more characters"
