"""docs/performance.md and its pictures, written from the JSON files of the last results."""

from __future__ import annotations

import json
from pathlib import Path

from experiments.benchmarks import picture, report
from experiments.benchmarks.report import Facts
from experiments.benchmarks.scenarios import GPU, SCENARIOS
from experiments.benchmarks.settings import ROOT

PAGE = ROOT / "docs/performance.md"
INTRODUCTION = """# Performance

Written by `make bench` from what it measured; `python -m experiments.benchmarks --write-docs`
writes it again from the files in `experiments/benchmarks/results/`. How it measures stands in
`experiments/benchmarks/README.md`.

Every comparison is a ratio of turns in the same round: bandwidth and clock frequency of a machine
drift within minutes, so figures of different runs are not compared. Each engine sits in a process
of its own with the model loaded, on the same cores with as many threads; rounds interleave them.
Given are the median over the rounds and, in brackets, the smallest and the largest.
"""
LAST_GPU = """## On a GPU

The figures are still to be taken: no GPU was at hand. `make bench-gpu` takes them, with the shapes
of Llama-3.1-8B and Qwen3-0.6B and random bfloat16 weights that are made on the device;
`python -m experiments.benchmarks --gpu --tiny` runs the same scripts with a toy on any device.
"""
NOTE = "note.md"
"""In a folder of another machine's results: what to know about them."""
NOTHING = "No figures of this version were taken yet: `make bench` takes them.\n"
HONEST = """## What to make of it

- One sequence in float32 is bound by reading the weights, and so is llama.cpp on an F32 file. On a
  Q8_0 or Q4 file it reads a quarter or an eighth of the bytes and is faster than any float32 engine
  can be; like is compared with like in F32.
- Sixteen rows and more are bound by the processor's matrix products. There all engines meet the
  same arithmetic, and what tells them apart is what they do beside it: sampling, padding, prompts
  that are computed again.
- Figures are of one machine. The ratios carry over to others better than the tokens a second.
"""


def write(results: Path, page: Path = PAGE) -> Path:
    """Write the page from the JSON files in `results`; the page's path."""
    found = [read(results, name) for name in (*SCENARIOS, *GPU)]
    known = [facts for facts in found if facts is not None]
    lines = [INTRODUCTION, *_machines(known), *_targets(known), *([] if known else [NOTHING])]
    for folder in sorted(path for path in results.glob("*") if path.is_dir()):
        lines += _elsewhere(folder)
    for facts in known:
        lines += _section(facts, page)
    if not any(facts["scenario"] in GPU for facts in known):
        lines.append(LAST_GPU)
    lines.append(HONEST)
    page.write_text("\n".join(lines).rstrip() + "\n", encoding="utf-8")
    return page


def read(results: Path, scenario: str) -> Facts | None:
    """A scenario's last result; None where it has none, or one of an older suite."""
    path = results / f"{scenario}.json"
    facts = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    return facts if "columns" in facts else None


def _machines(known: list[Facts]) -> list[str]:
    """The machine of the results, or of each where they are of several."""
    by_line: dict[str, list[str]] = {}
    for facts in known:
        by_line.setdefault(report.machine_line(facts["machine"]), []).append(facts["scenario"])
    if len(by_line) < 2:
        return [f"Measured on: {line}\n" for line in by_line]
    return [*(f"- {', '.join(names)}: {line}" for line, names in by_line.items()), ""]


def _targets(known: list[Facts]) -> list[str]:
    """All targets in one table, and what holds back those that were missed."""
    targets = [target for facts in known for target in facts["targets"]]
    if not targets:
        return []
    counts = {verdict: sum(t["verdict"] == verdict for t in targets) for verdict in report.VERDICTS}
    reached = counts["aim"] + counts["least"]
    return [
        "## Targets",
        "",
        f"{reached} of {len(targets)} are reached, {counts['aim']} of them with what was aimed at.",
        "",
        *report.target_table(targets),
        "",
    ]


def _elsewhere(folder: Path) -> list[str]:
    """The targets on another machine, whose results lie in a folder beside the last ones."""
    known = [facts for name in SCENARIOS if (facts := read(folder, name)) is not None]
    heading, *rest = _targets(known) or [""]
    note = folder / NOTE
    return [
        *([f"{heading} on another machine"] if heading else []),
        "",
        *_machines(known),
        *([note.read_text(encoding="utf-8")] if note.exists() else []),
        *rest[1:],
    ]


def _section(facts: Facts, page: Path) -> list[str]:
    """A scenario: its heading, picture, table and notes. Targets stand in the table of all."""
    lines = [f"## {facts['title']}", ""]
    if facts["picture"]:
        path = page.parent / "performance" / f"{facts['scenario']}.svg"
        picture.draw(facts["picture"], facts["title"], path)
        lines += [f"![{facts['title']}](performance/{path.name})", ""]
    return [*lines, *report.body({**facts, "targets": []}), ""]
