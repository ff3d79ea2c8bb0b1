"""Cells of a grid as columns: settings, numbers, coloured samples."""

from __future__ import annotations

import html

from toolkit.completion.record import Completion
from toolkit.completion.text import Tokenizer
from toolkit.widgets.grid import Cell, Grid, numbers
from toolkit.widgets.style import faint
from toolkit.widgets.text import TEXT, coloured
from toolkit.widgets.walk import Step


def columns(grid: Grid) -> str:
    """All cells side by side; they wrap where the page ends."""
    tokenizer = grid.lm.tokenizer
    cells = [
        _column(cell, answer, tokenizer)
        for cell, answer in zip(grid.cells, grid.answers, strict=True)
    ]
    legend = faint("The deeper the colour, the less the model itself expected the token.")
    style = "display:grid;grid-template-columns:repeat(auto-fit,minmax(17em,1fr));gap:.6em"
    return f'<div style="line-height:1.4">{legend}<div style="{style}">{"".join(cells)}</div></div>'


def _column(cell: Cell, answer: Completion | None, tokenizer: Tokenizer) -> str:
    body = faint("not drawn yet") if answer is None else _drawn(answer, tokenizer)
    style = "border:1px solid rgba(127,127,127,.4);padding:.3em .6em;min-width:0"
    return f'<div style="{style}"><b>{html.escape(cell.label)}</b>{body}</div>'


def _drawn(answer: Completion, tokenizer: Tokenizer) -> str:
    n = numbers(answer)
    lines = (
        f"entropy {n['entropy']:.2f} → {n['entropy_sampled']:.2f} bits",
        f"surprisal {n['surprisal']:.2f} bits a token",
        f"distinct-2 {n['distinct_2']:.2f} · {n['different']:.0f} of "
        f"{len(answer.record.choices)} texts differ",
    )
    head = "".join(f"<div>{faint(line)}</div>" for line in lines)
    return head + "".join(_sample(choice.tokens, tokenizer) for choice in answer.record.choices)


def _sample(tokens: tuple, tokenizer: Tokenizer) -> str:
    steps = [Step(id=token.id, logprob=token.logprob or 0.0) for token in tokens]
    spans = "".join(coloured(tokenizer, steps, hover=False))
    style = (
        "border-top:1px solid rgba(127,127,127,.25);padding:.2em 0;max-height:12em;overflow:auto"
    )
    return f'<div style="{TEXT};font-size:.9em;line-height:1.6;{style}">{spans}</div>'
