"""The text so far with the cursor in it, each drawn token coloured by its probability."""

from __future__ import annotations

import html
import math
from collections.abc import Sequence

from toolkit.analysis.scale import HUE, OPACITY, short
from toolkit.analysis.visible import MARKS, is_control, spelled, whole
from toolkit.completion.text import Tokenizer
from toolkit.widgets.names import shown
from toolkit.widgets.style import UNSELECTABLE
from toolkit.widgets.walk import Step, Walk

PROMPT = 600
"""Characters of the prompt's end that are shown."""
BEFORE, AFTER = 400, 100
"""Tokens around the cursor that are shown: a text that grows is sent again and again."""


def text(walk: Walk) -> str:
    """Prompt, path and cursor. The deeper the colour, the less the model expected the token."""
    path, cursor = walk.path, min(walk.cursor, len(walk.path))
    first, end = max(0, cursor - BEFORE), cursor + AFTER
    spans = coloured(walk.lm.tokenizer, path[first:end], here=cursor - first)
    spans.insert(cursor - first, CARET)
    head = _marker(f"… {first:,} tokens …") if first else _prompt(walk.prompt)
    tail = _marker(f"… {len(path) - end:,} tokens") if len(path) > end else ""
    style = "max-height:16em;overflow:auto;border:1px solid rgba(127,127,127,.4);padding:.3em .6em"
    return f'<div style="{TEXT};{style}">{head}{"".join(spans)}{tail}</div>'


def coloured(
    tokenizer: Tokenizer, steps: Sequence[Step], *, here: int | None = None, hover: bool = True
) -> list[str]:
    """A piece of HTML for each token; `here` frames one of them."""
    rows = [{"token_bytes": tokenizer.token_bytes(step.id)} for step in steps]
    pieces = (piece for _, piece in whole(rows))
    return [
        _span(step, piece, tokenizer, here=place == here, hover=hover)
        for place, (step, piece) in enumerate(zip(steps, pieces, strict=True))
    ]


TEXT = "font-family:monospace;white-space:pre-wrap;overflow-wrap:anywhere;line-height:1.8"
CARET = (
    f'<span aria-label="cursor" style="border-left:3px solid rgb({HUE[0]},{HUE[1]},{HUE[2]});'
    f'margin:0 1px;{UNSELECTABLE}">\u200b</span>'
)


def _prompt(prompt: str) -> str:
    cut = "…" if len(prompt) > PROMPT else ""
    body = "".join(map(_character, prompt[-PROMPT:]))
    return f'<span style="opacity:.75;unicode-bidi:isolate">{cut}{body}</span>'


def _span(step: Step, piece: str, tokenizer: Tokenizer, *, here: bool, hover: bool) -> str:
    special = step.id in tokenizer.special_ids
    inner = _marker(shown(tokenizer, step.id)) if special or not piece else ""
    inner = inner or "".join(map(_character, piece))
    title = f' title="{html.escape(_hover(step, tokenizer))}"' if hover else ""
    frame = ";outline:2px solid;outline-offset:-1px" if here else ""
    mark = _marker("✎") if step.forced else ""
    return f'<span{title} style="{_paint(step.logprob)}{frame}">{inner}</span>{mark}'


def _paint(logprob: float) -> str:
    """The less probable, the deeper the ground and the thicker the line under it."""
    level = 1 - min(math.exp(logprob), 1.0)
    rgb, width = ",".join(map(str, HUE)), round(3 * level)
    line = f";border-bottom:{width}px solid rgb({rgb})" if width else ""
    return f"unicode-bidi:isolate;background:rgba({rgb},{OPACITY * level:.2f}){line}"


def _hover(step: Step, tokenizer: Tokenizer) -> str:
    said = "   forced" if step.forced else ""
    return f"{shown(tokenizer, step.id)}   #{step.id}   p {short(math.exp(step.logprob))}{said}"


def _character(character: str) -> str:
    """A character; line ends under a mark that is not copied, controls spelled out."""
    if character == "\n":
        return _marker(MARKS["\n"]) + character
    if is_control(character):
        return _marker(spelled(character))
    return html.escape(character)


def _marker(text: str) -> str:
    return f'<span style="opacity:.5;{UNSELECTABLE}">{html.escape(text)}</span>'
