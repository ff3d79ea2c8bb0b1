"""What a comparison found: a sentence, its causes, a table, frames and pictures."""

from __future__ import annotations

import functools
import html
import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from toolkit.analysis.visible import LITERAL
from toolkit.experiments.compare.evidence import Evidence, Timing
from toolkit.experiments.compare.verdict import Finding, corrected, explained, findings, verdict

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure


class Comparison:
    """Two targets, settings or runs side by side.

    `verdict` says it in a sentence, `causes` in words for programs; `same` is whether nothing was
    found. `table` has a row a stage, `tests` a row a test of samples, `tokens` a row a scored
    token, `greedy` a row a prompt. `evidence` is everything.
    """

    def __init__(self, evidence: Evidence):
        self.evidence = evidence

    @functools.cached_property
    def findings(self) -> list[Finding]:
        """What differs, the likeliest cause first."""
        return findings(self.evidence)

    @property
    def same(self) -> bool:
        """Whether nothing differs."""
        return not self.findings

    @property
    def causes(self) -> list[str]:
        """Short names of the causes, the likeliest first, each once."""
        return list(dict.fromkeys(f.cause for f in self.findings))

    @property
    def verdict(self) -> str:
        """One sentence, and what else was seen."""
        return verdict(self.evidence, self.findings)

    # --- frames -----------------------------------------------------------------------------------

    @property
    def table(self) -> pd.DataFrame:
        """One row a stage: `stage`, `seen`, `differs`."""
        import pandas as pd

        rows = list(self._stages())
        frame = pd.DataFrame(rows, columns=["stage", "seen", "differs"])
        return frame.astype({"stage": "str", "seen": "str", "differs": "boolean"})

    @property
    def tests(self) -> pd.DataFrame:
        """One row a test of samples: setting, test, prompt (NA: all), p, corrected p, effect."""
        import pandas as pd

        numbers = corrected(self.evidence)
        tests = [(s.kernel, pd.NA, s.kernel.effect) for s in self.evidence.sampled]
        tests += [(t, i, t.effect) for s in self.evidence.sampled for i, t in enumerate(s.counts)]
        rows = [
            [s.setting, kind, prompt, test.p, p, effect, p <= self.evidence.alpha]
            for (s, kind, p), (test, prompt, effect) in zip(numbers, tests, strict=True)
        ]
        columns = ["setting", "test", "prompt_index", "p", "p_corrected", "effect", "differs"]
        frame = pd.DataFrame(rows, columns=columns)
        return frame.astype({"prompt_index": "Int32", "setting": "str", "test": "str"})

    @property
    def tokens(self) -> pd.DataFrame:
        """One row a scored token, with both log-probabilities and their difference."""
        return self.evidence.tokens_frame()

    @property
    def greedy(self) -> pd.DataFrame:
        """One row a prompt: tokens that agree, the gap at the first split, both texts."""
        import dataclasses

        import pandas as pd

        return pd.DataFrame([dataclasses.asdict(g) for g in self.evidence.greedy])

    @property
    def metrics(self) -> pd.DataFrame:
        """One row a metric: mean difference B minus A, its interval, p, effect, pairs."""
        import dataclasses

        import pandas as pd

        found = self.evidence.metrics
        return pd.DataFrame(
            [{"metric": name, **dataclasses.asdict(d)} for name, d in found.items()]
        )

    # --- pictures ---------------------------------------------------------------------------------

    def plot(self) -> Figure:
        """Both log-probabilities of each token against each other, and B minus A by position."""
        from toolkit.analysis.plots import differences

        return differences.scores(self.tokens, names=self._names)

    def plot_positions(self) -> Figure:
        """|B minus A| of every token of every text, as colours."""
        from toolkit.analysis.plots import differences

        return differences.by_position(self.tokens)

    def plot_text(self, prompt: int = 0) -> Figure:
        """One scored text, its tokens coloured by |B minus A|."""
        from toolkit.analysis.plots import differences

        return differences.text(self.tokens, prompt=prompt)

    def plot_tests(self) -> Figure:
        """Corrected p-values of the tests of samples, by setting."""
        from toolkit.analysis.plots import differences

        return differences.tests(self.tests, alpha=self.evidence.alpha)

    # --- how it shows itself ----------------------------------------------------------------------

    @property
    def _names(self) -> tuple[str, str]:
        return self.evidence.name_a, self.evidence.name_b

    def __str__(self) -> str:
        lines = [self.verdict]
        rows = list(self._stages())
        wide = max((len(stage) for stage, _, _ in rows), default=0)
        for stage, seen, differs in rows:
            lines.append(f"  {_MARKS[differs][0]} {stage:<{wide}}  {seen}")
        lines += [f"    note: {note}" for note in self.evidence.notes]
        return "\n".join(lines)

    __repr__ = __str__

    def _repr_html_(self) -> str:
        rows = "".join(_row(*stage) for stage in self._stages())
        notes = "".join(
            f'<div style="opacity:.7">{html.escape(note)}</div>' for note in self.evidence.notes
        )
        return (
            f"<div {LITERAL}><b>{html.escape(self.verdict)}</b><table>{rows}</table>{notes}</div>"
        )

    def _stages(self) -> Iterator[tuple[str, str, bool | None]]:
        e, causes = self.evidence, set(self.causes)
        texts = bool(causes & {"bos", "tokenizer", "template"})
        known = [t.same for t in e.tokenised if t.same is not None]
        if known or any(t.used_a is not None for t in e.tokenised):
            seen = (
                f"{sum(known)} of {len(known)} prompts become the same ids"
                if known
                else "by counts"
            )
            yield "tokenisation", seen, texts
        if e.scored:
            gaps = np.abs(e.differences)
            seen = (
                f"|Δ| median {np.median(gaps):.2g}, largest {gaps.max():.2g} nats over "
                f"{len(gaps):,} tokens; explained {explained(e.scored):.1%}"
            )
            different = bool(causes & {"other model", "quantised weights", "dtype", "kernel"})
            yield "log-probabilities", seen, different
        if e.greedy:
            yield "greedy text", self._greedy_words(), not all(g.same for g in e.greedy)
        for s in e.sampled:
            mine = [p for t, _, p in corrected(e) if t is s]
            seen = (
                f"{s.kernel.samples} texts of {s.kernel.prompts} prompts: kernel p "
                f"{s.kernel.p:.2g}, squared discrepancy {s.kernel.effect:.2g}; "
                f"smallest corrected p {min(mine):.2g}"
            )
            yield f"samples, {s.setting}", seen, min(mine) <= e.alpha
        for name, d in e.metrics.items():
            seen = f"{d.mean:+.3g} [{d.low:.3g}, {d.high:.3g}] over {d.pairs} prompts, p {d.p:.2g}"
            yield f"metric, {name}", seen, None
        yield from self._rest()

    def _greedy_words(self) -> str:
        found = self.evidence.greedy
        words = f"the same for {sum(g.same for g in found)} of {len(found)} prompts"
        gaps = [g.gap for g in found if not math.isnan(g.gap)]
        tokens = sum(g.agreed for g in found) / max(
            1, sum(max(g.length_a, g.length_b) for g in found)
        )
        split = f"; largest gap at a split {max(gaps):.2g} nats" if gaps else ""
        return f"{words}, {tokens:.0%} of the tokens until the first split{split}"

    def _rest(self) -> Iterator[tuple[str, str, bool | None]]:
        e = self.evidence
        if e.probes is not None:
            differing = [f.sentence for f in self.findings if f.check]
            seen = "; ".join(differing) or f"{len(e.probes[0].checks)} checks say the same"
            yield "behaviour", seen, bool(differing)
        if e.timing is not None:
            yield "speed", " against ".join(map(_speed, e.timing)), None


_MARKS = {True: ("✗", "213,94,0"), False: ("✓", "0,158,115"), None: ("-", "138,138,138")}


def _row(stage: str, seen: str, differs: bool | None) -> str:
    cell = "padding:.15em .9em .15em 0;text-align:left;vertical-align:top"
    mark, colour = _MARKS[differs]
    badge = f'<span style="background:rgba({colour},.22);padding:.05em .5em">{mark}</span>'
    cells = (badge, html.escape(stage), html.escape(seen))
    return "<tr>" + "".join(f'<td style="{cell}">{part}</td>' for part in cells) + "</tr>"


def _speed(timing: Timing) -> str:
    if timing.tokens_per_second is None:
        return f"{timing.seconds:.2g} s an answer"
    first = f", first after {1000 * timing.first_token:.0f} ms" if timing.first_token else ""
    return f"{timing.tokens_per_second:.0f} tokens/s{first}"
