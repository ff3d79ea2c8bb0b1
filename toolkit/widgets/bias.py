"""The table of `logit_bias`: tokens found by their string, each with its number."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import ipywidgets as ipw

from toolkit.analysis.clicks import beside_cells
from toolkit.completion.text import Tokenizer
from toolkit.errors import ToolkitError
from toolkit.widgets.names import escaped, found, several

Changed = Callable[[dict[int, float]], None]
SMALL = ipw.Layout(width="2.4em", flex="0 0 auto")


class BiasTable:
    """Adds a token by its string, shows its id, and lets it be changed and removed.

    `noted` gets what a user should know: what was wrong, or that a string is several tokens, of
    which only the first is biased.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        bias: Mapping[int, float],
        changed: Changed,
        noted: Callable[[str], None],
    ):
        self.tokenizer = tokenizer
        self.bias = dict(bias)
        self._changed = changed
        self._noted = noted
        self.text = ipw.Text(
            placeholder="a token, such as ' Paris'",
            continuous_update=False,
            layout=ipw.Layout(width="auto", flex="1 1 auto"),
        )
        self.amount = _number(5.0)
        self.add = ipw.Button(description="+", tooltip="add to logit_bias", layout=SMALL)
        self.add.on_click(self._add)
        self.entries = ipw.VBox()
        title = ipw.HTML("logit_bias")
        self.box = ipw.VBox([title, ipw.HBox([self.text, self.amount, self.add]), self.entries])
        self.show(bias)

    def put(self, text: str, amount: float) -> None:
        """Bias the first token of a string."""
        tokens = found(self.tokenizer, text)
        self._tell(self.bias | {tokens[0]: amount})
        self._noted(several(self.tokenizer, text, tokens))

    def _add(self, _: Any) -> None:
        try:
            self.put(self.text.value, self.amount.value)
        except ToolkitError as error:
            self._noted(error.message)

    def show(self, bias: Mapping[int, float]) -> None:
        """Show other entries without a word to anybody."""
        self.bias = dict(bias)
        self.entries.children = [self._entry(token, bias[token]) for token in self.bias]
        beside_cells(self.entries)

    def _tell(self, bias: dict[int, float]) -> None:
        self.show(bias)
        self._changed(bias)

    def _entry(self, token: int, amount: float) -> ipw.HBox:
        label = ipw.HTML(f"{escaped(self.tokenizer, token)} #{token}")
        label.layout = ipw.Layout(width="auto", flex="1 1 auto")
        number = _number(amount)
        remove = ipw.Button(description="✕", tooltip=f"remove token {token}", layout=SMALL)
        number.observe(lambda change: self._alter(token, change["new"]), names="value")
        remove.on_click(lambda _: self._tell(_without(self.bias, token)))
        return ipw.HBox([label, number, remove])

    def _alter(self, token: int, amount: float) -> None:
        self.bias = self.bias | {token: amount}
        self._changed(self.bias)


def _number(value: float) -> Any:
    return ipw.BoundedFloatText(value, min=-100, max=100, step=1, layout=ipw.Layout(width="5.5em"))


def _without(bias: Mapping[int, float], token: int) -> dict[int, float]:
    return {other: amount for other, amount in bias.items() if other != token}
