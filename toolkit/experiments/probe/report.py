"""What a probe found: one row a check, as text, frame and table."""

from __future__ import annotations

import dataclasses
import html
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from toolkit.analysis.visible import LITERAL

if TYPE_CHECKING:
    import pandas as pd

AS_EXPECTED, DIFFERS, REFUSED, UNKNOWN = "as expected", "differs", "refused", "unknown"
_COLOURS = {
    AS_EXPECTED: "0,158,115",
    DIFFERS: "213,94,0",
    REFUSED: "0,114,178",
    UNKNOWN: "138,138,138",
}
_MARKS = {AS_EXPECTED: "✓", DIFFERS: "✗", REFUSED: "-", UNKNOWN: "?"}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Check:
    """One question to a target, and what its answers say."""

    check: str
    expected: str
    """By the completion contract."""
    observed: str
    verdict: str
    """`as expected`; `differs`; `refused`, which is honest where it is not supported; `unknown`
    where the answers cannot tell."""
    value: Any = None
    """The finding for programs: equal values mean equal behaviour; None where nothing is known."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Probe:
    """What a target means by the fields that it takes. `probe[name]` is one check."""

    target: str
    checks: tuple[Check, ...]
    requests: int
    seconds: float
    identity: dict[str, Any]

    @property
    def frame(self) -> pd.DataFrame:
        """One row a check: `check`, `expected`, `observed`, `verdict`."""
        import pandas as pd

        columns = ["check", "expected", "observed", "verdict"]
        rows = [[getattr(c, column) for column in columns] for c in self.checks]
        return pd.DataFrame(rows, columns=columns, dtype="str")

    @property
    def differing(self) -> list[str]:
        """Names of the checks that differ from the contract."""
        return [c.check for c in self.checks if c.verdict == DIFFERS]

    def to_json(self) -> dict[str, Any]:
        """Everything as plain JSON, for the manifest of a run."""
        checks = [dataclasses.asdict(c) for c in self.checks]
        return {"target": self.target, "identity": self.identity, "checks": checks}

    def __getitem__(self, name: str) -> Check:
        for check in self.checks:
            if check.check == name:
                return check
        raise KeyError(f"No check {name!r}. There are: {', '.join(c.check for c in self.checks)}.")

    def __iter__(self) -> Iterator[Check]:
        return iter(self.checks)

    @property
    def summary(self) -> str:
        """One line of counts."""
        verdicts = [c.verdict for c in self.checks]
        found = [f"{verdicts.count(v)} {v}" for v in _MARKS if v in verdicts]
        return f"{self.target}: {', '.join(found)} ({self.requests} requests, {self.seconds:.1f} s)"

    def __str__(self) -> str:
        wide = max(len(c.check) for c in self.checks)
        lines = [self.summary]
        for c in self.checks:
            lines.append(f"  {_MARKS[c.verdict]} {c.check:<{wide}}  {c.observed}")
            if c.verdict == DIFFERS:
                lines.append(f"    {'':<{wide}}  expected: {c.expected}")
        return "\n".join(lines)

    __repr__ = __str__

    def _repr_html_(self) -> str:
        cell = "padding:.15em .9em .15em 0;text-align:left;vertical-align:top"
        head = "".join(
            f'<th style="{cell}">{name}</th>'
            for name in ("check", "observed", "expected", "verdict")
        )
        rows = "".join(self._row(c, cell) for c in self.checks)
        return (
            f"<div {LITERAL}><b>{html.escape(self.summary)}</b>"
            '<table style="border-collapse:collapse">'
            f"<tr>{head}</tr>{rows}</table></div>"
        )

    def _row(self, c: Check, cell: str) -> str:
        paint = f"background:rgba({_COLOURS[c.verdict]},.22);padding:.05em .5em;white-space:nowrap"
        verdict = f'<span style="{paint}">{_MARKS[c.verdict]} {c.verdict}</span>'
        faint = f"{cell};opacity:.7"
        return (
            f'<tr><td style="{cell}">{html.escape(c.check)}</td>'
            f'<td style="{cell}">{html.escape(c.observed)}</td>'
            f'<td style="{faint}">{html.escape(c.expected)}</td>'
            f'<td style="{cell}">{verdict}</td></tr>'
        )
