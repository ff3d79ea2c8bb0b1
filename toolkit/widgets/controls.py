"""The explorer's left column: a slider for each parameter, with its reset and what is off."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import ipywidgets as ipw

from toolkit.widgets.settings import DEFAULT, Settings

Changed = Callable[[str, Any], None]
"""Called with a parameter's name and its new value."""

WIDE = ipw.Layout(width="auto", flex="1 1 auto", min_width="9em")
NARROW = ipw.Layout(width="auto", flex="1 1 auto", min_width="4em")
"""Beside another part; the row must hold its button in a column of 26 em."""
NAME = ipw.Layout(width="11.5em", flex="0 0 auto")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Range:
    """A slider's ends and its step."""

    low: float
    high: float
    step: float


RANGES = {
    "temperature": Range(low=0, high=2, step=0.05),
    "top_p": Range(low=0, high=1, step=0.01),
    "min_p": Range(low=0, high=0.5, step=0.005),
    "typical_p": Range(low=0, high=1, step=0.01),
    "presence_penalty": Range(low=-2, high=2, step=0.05),
    "frequency_penalty": Range(low=-2, high=2, step=0.05),
    "repetition_penalty": Range(low=1, high=2, step=0.01),
}


class Control:
    """One parameter: its name, what it does now, a widget, and a button that makes it neutral."""

    def __init__(self, name: str, value: Any, changed: Changed, parts: list[Any]):
        self.name = name
        self.parts = parts
        self._changed = changed
        self._quiet = False
        self._label = ipw.HTML(layout=NAME)
        self._reset = ipw.Button(description="↺", tooltip=f"reset {name}")
        self._reset.layout = ipw.Layout(width="2.4em", flex="0 0 auto")
        self._reset.on_click(lambda _: self.tell(getattr(DEFAULT, name)))
        self.box = ipw.HBox([self._label, *parts, self._reset])
        self.show(value)
        for part in parts:
            part.observe(self._moved, names="value")

    def tell(self, value: Any) -> None:
        """Show a value and say that it is the new one."""
        self.show(value)
        self._changed(self.name, value)

    def show(self, value: Any) -> None:
        """Show a value without a word to anybody."""
        self._quiet = True
        try:
            self.write(value)
        finally:
            self._quiet = False
        label = f'{self.name} <span style="opacity:.6">{described(self.name, value)}</span>'
        if label != self._label.value:
            self._label.value = label

    def _moved(self, change: Any) -> None:
        if not self._quiet:
            self.tell(self.read(change["owner"]))

    def write(self, value: Any) -> None:
        """Put a value into the parts."""
        self.parts[0].value = value

    def read(self, part: Any) -> Any:
        """The parameter's value, of which `part` was moved."""
        return part.value


class Slider(Control):
    """A number on a line. The readout takes typed numbers."""

    def __init__(self, name: str, value: float, changed: Changed):
        span = RANGES[name]
        slider = ipw.FloatSlider(
            min=span.low,
            max=span.high,
            step=span.step,
            readout_format=".3f" if span.step < 0.01 else ".2f",
            layout=WIDE,
        )
        super().__init__(name, value, changed, [slider])

    def write(self, value: float) -> None:
        slider = self.parts[0]  # it would cut a value beyond its ends off
        slider.min, slider.max = min(slider.min, value), max(slider.max, value)
        slider.value = value

    def read(self, part: Any) -> float:
        return round(part.value, 6)  # not 0.7000000000000001, which a step makes


class Count(Control):
    """`top_k`: on a logarithmic line, whose end is all tokens, and as a number, where 0 is."""

    def __init__(self, name: str, value: int, changed: Changed, *, most: int):
        self.most = most
        line = ipw.FloatLogSlider(
            min=0, max=math.log10(most), step=0.02, readout=False, layout=NARROW
        )
        number = ipw.BoundedIntText(min=0, max=most, layout=ipw.Layout(width="5.5em"))
        super().__init__(name, value, changed, [line, number])

    def write(self, value: int) -> None:
        line, number = self.parts
        line.value = value if 0 < value < self.most else self.most
        number.value = value

    def read(self, part: Any) -> int:
        value = round(part.value)
        return 0 if value >= self.most else value


class Whole(Control):
    """A whole number of tokens."""

    def __init__(self, name: str, value: int, changed: Changed, *, most: int):
        layout = ipw.Layout(width="7em")
        super().__init__(name, value, changed, [ipw.BoundedIntText(min=1, max=most, layout=layout)])


class Seed(Control):
    """Any 64-bit integer, as text: a browser's numbers end at 53 bits."""

    def __init__(self, name: str, value: int, changed: Changed):
        super().__init__(name, value, changed, [ipw.Text(continuous_update=False, layout=WIDE)])

    def write(self, value: Any) -> None:
        self.parts[0].value = str(value)

    def read(self, part: Any) -> Any:
        text = part.value.strip()
        digits = text.removeprefix("-")
        return int(text) if digits.isascii() and digits.isdigit() else text


class Choices(Control):
    """`guided_choice` as one line, the choices apart by bars."""

    def __init__(self, name: str, value: tuple[str, ...], changed: Changed):
        text = ipw.Text(placeholder="yes|no|perhaps", continuous_update=False, layout=WIDE)
        super().__init__(name, value, changed, [text])

    def write(self, value: tuple[str, ...]) -> None:
        self.parts[0].value = "|".join(value)

    def read(self, part: Any) -> tuple[str, ...]:
        return tuple(part.value.split("|")) if part.value else ()


def described(name: str, value: Any) -> str:
    """What a value means where that is not plain: "off", "greedy"; else nothing."""
    if name == "temperature":
        return "greedy" if value == 0 else "as trained" if value == 1 else ""
    if name in ("seed", "max_tokens"):
        return ""
    return "off" if value == getattr(DEFAULT, name) else ""


def controls(settings: Settings, changed: Changed, *, vocab: int, context: int) -> list[Control]:
    """One for each parameter but `logit_bias`, in the order of the pipeline's interest."""
    found: list[Control] = []
    for name in ("temperature", "top_p", "top_k", *list(RANGES)[2:]):
        value = getattr(settings, name)
        if name == "top_k":
            found.append(Count(name, value, changed, most=vocab))
        else:
            found.append(Slider(name, value, changed))
    found.append(Choices("guided_choice", settings.guided_choice, changed))
    found.append(Seed("seed", settings.seed, changed))
    found.append(Whole("max_tokens", settings.max_tokens, changed, most=context))
    return found
