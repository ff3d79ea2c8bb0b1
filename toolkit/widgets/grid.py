"""Samples of one prompt under several settings: cells, what is drawn so far, its numbers."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import pandas as pd

from toolkit.completion.complete import LM
from toolkit.completion.record import Completion
from toolkit.completion.request import CompletionRequest
from toolkit.completion.response import strict
from toolkit.completion.run import Run
from toolkit.errors import InvalidRequest
from toolkit.widgets.walk import go_on
from toolkit.widgets.worker import Watch

CELLS = 64
"""More columns than this nobody can compare."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Cell:
    """One column: what sets it apart, and its request."""

    settings: Mapping[str, Any]
    request: CompletionRequest

    @property
    def label(self) -> str:
        """As in "temperature 0.7, top_p 0.9"."""
        return ", ".join(f"{name} {value}" for name, value in self.settings.items()) or "default"


class Grid:
    """Cells and their answers. What is drawn stays; a run draws what is missing."""

    def __init__(self, lm: LM, prompt: str, cells: Sequence[Cell]):
        self.lm = lm
        self.prompt = prompt
        self.cells = tuple(cells)
        self.answers: list[Completion | None] = [None] * len(self.cells)

    @property
    def missing(self) -> list[int]:
        """Places of the cells without an answer."""
        return [place for place, answer in enumerate(self.answers) if answer is None]

    def run(self, *, watch: Watch = go_on, told: Callable[[], None] = go_on) -> None:
        """Draw the missing cells in order; `told` is called after each.

        What `watch` raises ends the run and loses the cell in work, no other.
        """
        for place in self.missing:
            watch()
            record = Run(self.lm, self.cells[place].request, watch=watch).finish()
            self.answers[place] = Completion(strict(record), record)
            told()

    @property
    def frame(self) -> pd.DataFrame:
        """A row a cell: its settings and, once it is drawn, its numbers."""
        rows = [
            {"cell": cell.label, **cell.settings, **({} if answer is None else numbers(answer))}
            for cell, answer in zip(self.cells, self.answers, strict=True)
        ]
        return pd.DataFrame(rows)


def numbers(answer: Completion) -> dict[str, float]:
    """Of all samples of a cell together; entropies and surprisals are means a token, in bits.

    `distinct_2` is the share of different pairs of words among all pairs (Li et al. 2016,
    arXiv 1510.03055), `different` the number of different texts.
    """
    # Not at the top: matplotlib takes long to import.
    from toolkit.analysis.plots.runs import distinct

    choices = answer.record.choices
    tokens = [token for choice in choices for token in choice.tokens]
    texts = [choice.completion for choice in choices]
    return {
        "tokens": len(tokens),
        "entropy": _bits(token.entropy for token in tokens),
        "entropy_sampled": _bits(token.sampling_entropy for token in tokens),
        "surprisal": -_bits(token.logprob for token in tokens),
        "distinct_2": distinct(texts, 2),
        "different": len(set(texts)),
    }


def _bits(nats: Iterable[float | None]) -> float:
    known = [value for value in nats if value is not None]
    return math.fsum(known) / len(known) / math.log(2) if known else math.nan


def cells_of(
    lm: LM,
    prompt: str,
    grid: Mapping[str, Sequence[Any]] | Sequence[Mapping[str, Any]],
    fixed: Mapping[str, Any],
) -> list[Cell]:
    """The cells of a grid: every combination of a mapping's values, or the settings as listed.

    Raises InvalidRequest for a cell that breaks a rule, before anything is drawn.
    """
    settings = _combinations(grid)
    if not 0 < len(settings) <= CELLS:
        message = f"`grid` makes {len(settings)} cells; 1 to {CELLS} can be shown."
        raise InvalidRequest(f"{message} Leave some values out.", param="grid")
    asked = {"logprobs": 0, "details": True}
    return [
        Cell(settings=one, request=lm.parse(prompt, {**fixed, **one, **asked}, stream=False))
        for one in settings
    ]


def _combinations(grid: Any) -> list[dict[str, Any]]:
    if not isinstance(grid, Mapping):
        return [dict(one) for one in grid]
    for name, values in grid.items():
        if isinstance(values, str) or not isinstance(values, Iterable):
            message = f"`grid` needs a list of values for `{name}`, got {values!r:.80}."
            raise InvalidRequest(f"{message} Put it into brackets.", param="grid")
    lists = [list(values) for values in grid.values()]
    return [dict(zip(grid, values, strict=True)) for values in itertools.product(*lists)]
