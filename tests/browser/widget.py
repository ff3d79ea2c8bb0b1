"""The explorer and the comparison as their reader sees them: names, sliders, numbers, buttons."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from playwright.sync_api import Locator

HTML = "xpath=.//*[contains(@class,'widget-html-content')]"
BEGINS = "[starts-with(concat(normalize-space(.),' '),'{} ')]"
LINE = "xpath=ancestor::*[contains(@class,'widget-hbox')][1]"


class Widget:
    """What one cell shows."""

    def __init__(self, cell: Locator):
        self.cell = cell
        self.page = cell.page
        cell.locator(".jupyter-widgets").first.wait_for()

    def control(self, name: str) -> Locator:
        """The line of a parameter: name, slider, number, reset."""
        return self.cell.locator(HTML + BEGINS.format(name)).locator(LINE)

    def press(self, name: str, key: str, *, times: int = 1) -> None:
        """Press a key on a parameter's slider."""
        self.control(name).locator(".noUi-handle").focus()
        for _ in range(times):
            self.page.keyboard.press(key)

    def readout(self, name: str) -> Locator:
        """The number beside a slider."""
        return self.control(name).locator(".widget-readout")

    def number(self, row: str, column: int) -> Locator:
        """From the table of numbers: column 0 is the model's own, then what is drawn from."""
        name = f"xpath=.//tr[td[1][normalize-space(.)='{row}']]/td[{column + 2}]"
        return self.cell.locator(name)

    def button(self, name: str) -> Locator:
        """A button by its word, whatever its icon."""
        word = re.compile(rf"^\s*{re.escape(name)}\s*$")
        return self.cell.locator("button.jupyter-button").filter(has_text=word)

    @property
    def picture(self) -> Locator:
        """The page of numbers, curve and bars."""
        return self.cell.locator(HTML + BEGINS.format("step"))

    @property
    def text(self) -> Locator:
        """The text with the cursor."""
        cursor = self.cell.locator(".widget-html-content", has=self.page.get_by_label("cursor"))
        return cursor.first
