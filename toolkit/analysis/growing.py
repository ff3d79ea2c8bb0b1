"""A stream that shows itself while it comes: in place in a notebook, as running text elsewhere."""

from __future__ import annotations

import html
import sys
import time
from collections.abc import Iterable, Mapping
from typing import Any, Protocol

from toolkit.analysis.visible import LITERAL, is_control, spelled

INTERVAL = 0.05
"""Seconds between two updates of a notebook's output."""


class Screen(Protocol):
    """Where a text grows."""

    def grow(self, index: int, text: str) -> None:
        """Add to the text of a choice."""
        ...

    def settle(self, answer: Any) -> None:
        """Show the finished answer in its place; None for one that was cut short."""
        ...


def show(chunks: Iterable[Mapping[str, Any]], screen: Screen) -> None:
    """Show a stream's chunks as they come. An interrupt leaves what is there."""
    for chunk in chunks:
        for choice in chunk["choices"]:
            screen.grow(choice["index"], safe(choice["text"]))


def safe(text: str) -> str:
    """The text with everything spelled out that would act on a terminal or turn the direction."""
    return "".join(spelled(c) if is_control(c) or c == "\r" else c for c in text)


def screen() -> Screen:
    """The notebook's output if there is one, else the terminal."""
    interactive = sys.modules.get("IPython")
    shell = interactive.get_ipython() if interactive else None
    return Notebook() if hasattr(shell, "kernel") else Terminal()


class Notebook:
    """One output of a cell, replaced again and again."""

    def __init__(self) -> None:
        self.texts: dict[int, str] = {}
        self._handle: Any = None
        self._updated = -INTERVAL

    def grow(self, index: int, text: str) -> None:
        self.texts[index] = self.texts.get(index, "") + text
        now = time.monotonic()
        if now - self._updated >= INTERVAL:
            self._updated = now
            self._put({"text/html": self.html(), "text/plain": self.plain()})

    def settle(self, answer: Any) -> None:
        if answer is None:
            self._put({"text/html": self.html(), "text/plain": self.plain()})
        else:
            self._put(answer._repr_mimebundle_())

    def html(self) -> str:
        """All texts so far, a block a choice."""
        style = "white-space:pre-wrap;overflow-wrap:anywhere;unicode-bidi:isolate;margin:.2em 0"
        return "".join(
            self._title(index) + f'<div {LITERAL} style="{style}">{html.escape(text)}</div>'
            for index, text in sorted(self.texts.items())
        )

    def plain(self) -> str:
        """All texts so far."""
        return "\n".join(text for _, text in sorted(self.texts.items()))

    def _title(self, index: int) -> str:
        return f'<div style="opacity:.7">choice {index}</div>' if len(self.texts) > 1 else ""

    def _put(self, bundle: Mapping[str, str]) -> None:
        from IPython.display import display

        if self._handle is None:
            self._handle = display(bundle, raw=True, display_id=True)
        else:
            self._handle.update(bundle, raw=True)


class Terminal:
    """Running text of the first choice; the others, which would mix with it, come at the end."""

    def __init__(self) -> None:
        self.texts: dict[int, str] = {}

    def grow(self, index: int, text: str) -> None:
        self.texts[index] = self.texts.get(index, "") + text
        if index == 0:
            sys.stdout.write(text)
            sys.stdout.flush()

    def settle(self, answer: Any) -> None:
        others = [f"[{index}] {text}" for index, text in sorted(self.texts.items()) if index]
        sys.stdout.write("\n" + "".join(f"{line}\n" for line in others))
