"""The explorer's buttons and boxes: walking, drawing, forcing, pinning, copying."""

from __future__ import annotations

from typing import Any

import ipywidgets as ipw

from toolkit.widgets.style import faint

CHOOSE = ("choose a token", -1)
"""Head of the list of tokens. Not None: ipywidgets shows nothing for that."""
FORMS = (("hide", ""), ("code", "code"), ("JSON", "json"), ("YAML", "yaml"))


def button(text: str, tooltip: str, *, width: str = "auto", icon: str = "") -> ipw.Button:
    """A button that says what it does when the pointer rests on it."""
    return ipw.Button(description=text, tooltip=tooltip, icon=icon, layout=ipw.Layout(width=width))


class Actions:
    """Widgets alone; the explorer connects them."""

    def __init__(self) -> None:
        self.left = button("←", "one step back")
        self.right = button("→", "one step on")
        self.step = ipw.IntSlider(
            min=0, max=0, description="step", layout=ipw.Layout(width="auto", flex="1 1 12em")
        )
        self.back = button("back", "take the token before the cursor away")
        self.one = button("sample 1", "draw one token at the cursor")
        self.end = button("sample to end", "draw tokens until the text or max_tokens ends")
        self.five = button("5 samples", "five continuations from the cursor, by their own draws")
        self.stop = button("Stop", "stop what runs and keep what it has drawn", icon="stop")
        self.stop.disabled = True
        self.choice = ipw.Dropdown(
            options=[CHOOSE],
            description="force",
            tooltip="put this token at the cursor",
            layout=ipw.Layout(width="auto", flex="1 1 12em"),
        )
        self.typed = _text("or type a string, then Enter")
        self.probe = _text("watch a token, such as ' Paris'")
        self.pin = button("pin A", "keep the present parameters as A, to compare with")
        self.unpin = button("unpin", "forget A")
        self.unpin.disabled = True
        self.form = ipw.ToggleButtons(
            options=FORMS, description="copy as", style=ipw.ToggleButtonsStyle(button_width="5em")
        )
        self.remark = ipw.HTML()
        self.copy = ipw.Textarea(
            rows=8, tooltip="select all and copy", layout=ipw.Layout(width="auto", display="none")
        )

    @property
    def walking(self) -> ipw.Widget:
        """What moves in the text and makes it longer."""
        moves = [self.left, self.right, self.step, self.back]
        draws = [self.one, self.end, self.five, self.stop]
        return ipw.VBox([_row(moves), _row(draws), _row([self.choice, self.typed])])

    @property
    def looking(self) -> ipw.Widget:
        """What compares and copies."""
        return ipw.VBox(
            [_row([self.probe, self.pin, self.unpin]), self.form, self.copy, self.remark]
        )

    def show_step(self, cursor: int, length: int) -> None:
        """Set the slider; whoever observes it must know that nobody moved it."""
        if cursor <= self.step.max:
            self.step.value = cursor
        self.step.max = length
        self.step.value = cursor
        self.left.disabled = self.back.disabled = cursor == 0
        self.right.disabled = cursor == length

    def show_copy(self, text: str, remark: str) -> None:
        """A request to copy and what to know about it; nothing for an empty one."""
        self.remark.value = faint(remark) if text and remark else ""
        if self.copy.value == text:
            return
        self.copy.value = text
        self.copy.rows = min(16, text.count("\n") + 2)
        self.copy.layout.display = "block" if text else "none"


def _text(placeholder: str) -> Any:
    return ipw.Text(
        placeholder=placeholder,
        continuous_update=False,
        layout=ipw.Layout(width="auto", flex="1 1 10em"),
    )


def _row(children: list[Any]) -> ipw.HBox:
    return ipw.HBox(children, layout=ipw.Layout(flex_flow="row wrap", align_items="center"))
