"""The explorer's picture: numbers, curve and bars of the distribution at the cursor."""

from __future__ import annotations

from toolkit.widgets.bars import bars
from toolkit.widgets.curve import curve
from toolkit.widgets.facts import facts
from toolkit.widgets.names import escaped
from toolkit.widgets.session import Session
from toolkit.widgets.style import faint

SHRINKS = "display:grid;grid-template-columns:minmax(0,1fr)"
"""What is too wide for a narrow window scrolls by itself, and the rest keeps to the width."""


def page(session: Session) -> str | None:
    """Everything that changes with a slider, as one piece of HTML.

    None while the logits at the cursor are not here: this never runs the model.
    """
    shown = session.live()
    if shown is None:
        return None
    pinned = session.live(session.pinned) if session.pinned is not None else None
    tokenizer = session.lm.tokenizer

    def name(token: int) -> str:
        return escaped(tokenizer, token)

    numbers = facts(shown, name, pinned=pinned, probe=session.probed)
    above = "display:flex;flex-wrap:wrap;gap:.5em 2em;align-items:flex-start;margin-bottom:.6em"
    title = f"step {session.walk.cursor}: what may come next"
    return (
        f'<div style="line-height:1.4;{SHRINKS}">{faint(title)}'
        f'<div style="{above}"><div style="flex:1 1 20em">{numbers}</div>'
        f'<div style="flex:1 1 18em;min-width:15em">{curve(shown, pinned=pinned)}</div></div>'
        f"{bars(shown, name, pinned=pinned)}</div>"
    )
