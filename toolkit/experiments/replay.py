"""Replay: recorded cells asked again, and what is different, with its cause where it is known."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from toolkit.completion.complete import LM
from toolkit.errors import RunError
from toolkit.experiments import manifest as manifests
from toolkit.experiments.ask import asked
from toolkit.experiments.cells import cell_id
from toolkit.experiments.conduct import open_target, threads
from toolkit.experiments.declaration import ModelPart, ServerPart, target_name
from toolkit.experiments.difference import Difference, difference
from toolkit.experiments.progress import Progress
from toolkit.experiments.run import Run, open_run
from toolkit.experiments.settings import canonical
from toolkit.experiments.stop import Stop
from toolkit.experiments.target import Local, Target

if TYPE_CHECKING:
    import pandas as pd

ORDER = ("bitwise", "same tokens", "same text", "diverged", "failed")
"""Verdicts from best to worst."""


def replay(
    run: Run | str | Path,
    who: LM | Target | None = None,
    *,
    sample: int | None = None,
    changes: Mapping[str, Any] | None = None,
    progress: bool = True,
) -> Replay:
    """Ask the cells of a run again and compare.

    `who`: a loaded model or a target; None is what the run was made with, as its declaration names
    it. `sample`: so many cells instead of all, always the same ones. `changes`: parameters that
    replace the recorded ones, to see what they do.

    On the machine and versions of the recording every cell is "bitwise" equal. Else "same tokens"
    comes with the largest difference of a log-probability, and "diverged" with the step and the
    probabilities of both tokens there: a gap near 0 is a tie that rounding decides.
    """
    run = run if isinstance(run, Run) else open_run(run)
    results: list[Difference] = []
    causes: list[str] = []
    for part, cells in _by_target(run, sample):
        with _opened(part, who, run) as target:
            causes += _causes(run, target_name(part), target)
            results += _asked_again(cells, target, part, dict(changes or {}), progress)
            causes += _edits(cells, run.manifest["targets"][target_name(part)])
    causes += [f"`{name}` is {value!r} now" for name, value in sorted((changes or {}).items())]
    return Replay(run=run, results=results, causes=list(dict.fromkeys(causes)))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Replay:
    """What came of asking again."""

    run: Run
    results: list[Difference]
    causes: list[str]
    """What is not as it was when the run was recorded."""

    @property
    def frame(self) -> pd.DataFrame:
        """One row a cell: verdict, largest difference, and where and how it diverged."""
        import pandas as pd

        names = [field.name for field in dataclasses.fields(Difference)]
        return pd.DataFrame([dataclasses.asdict(item) for item in self.results], columns=names)

    @property
    def bitwise(self) -> bool:
        """Whether every cell came out the same, bit for bit."""
        return all(item.verdict == "bitwise" for item in self.results)

    def verdict(self) -> str:
        """All of it in a sentence."""
        counts = [(v, sum(item.verdict == v for item in self.results)) for v in ORDER]
        told = ", ".join(f"{count:,} {verdict}" for verdict, count in counts if count)
        return f"{len(self.results):,} cells asked again: {told or 'none'}."

    def lines(self) -> list[str]:
        """The verdict, the causes, and the worst cells."""
        found = [self.verdict()]
        if not self.bitwise:
            found += [f"Not as recorded: {cause}." for cause in self.causes]
        differing = [item for item in self.results if item.verdict != "bitwise"]
        differing.sort(key=lambda item: (-ORDER.index(item.verdict), -(item.largest or 0.0)))
        return found + [f"{item.cell_id[:8]}  {item}" for item in differing[:5]]

    def __repr__(self) -> str:
        first, *others = self.lines()
        return "\n".join([f"<Replay of {self.run.config.name}: {first}>", *others])

    def _repr_html_(self) -> str:
        """The card that Jupyter shows."""
        from toolkit.analysis import card

        lines = self.lines()
        rows = {"" if i else "verdict": text for i, text in enumerate(lines[:1])}
        rows |= {f"{i}": text for i, text in enumerate(lines[1:], start=1)}
        return card.table(f"Replay of {self.run.config.name}", rows)


# --- asking ---------------------------------------------------------------------------------------


def _by_target(run: Run, sample: int | None) -> Iterator[tuple[ModelPart | ServerPart, list[Any]]]:
    """The recorded cells of each target; with `sample` those whose names come first."""
    cells = list({line["cell_id"]: (line, reply) for line, reply in run.cells()}.values())
    if not cells:
        raise RunError(f"{run.path} holds no answer yet. Go on with: toolkit run {run.path}")
    if sample is not None:
        if sample < 1:
            raise RunError(f"`sample` must be 1 or more, got {sample}. Leave it out for all cells.")
        cells = sorted(cells, key=lambda pair: pair[0]["cell_id"])[:sample]
    parts = {target_name(part): part for part in run.config.asked}
    by_name = sorted(cells, key=lambda pair: pair[0]["target"])
    for name, group in itertools.groupby(by_name, key=lambda pair: pair[0]["target"]):
        yield parts[name], list(group)


@contextlib.contextmanager
def _opened(part: ModelPart | ServerPart, who: Any, run: Run) -> Iterator[Target]:
    if who is None:
        with open_target(part) as target:
            yield target
        return
    names = list(run.manifest["targets"])
    target = Local(who) if isinstance(who, LM) else who
    if len(names) > 1 and target.name != target_name(part):
        raise RunError(
            f"The run asked {', '.join(names)}; {target.name!r} cannot stand for all of them. "
            "Leave `who` out to ask each again."
        )
    yield target


def _asked_again(
    cells: Sequence[Any],
    target: Target,
    part: ModelPart | ServerPart,
    changes: Mapping[str, Any],
    progress: bool,
) -> list[Difference]:
    """Each cell's difference, in the order of `cells`."""
    lines = {line["cell_id"]: _line(line, reply, changes) for line, reply in cells}
    found: dict[str, Mapping[str, Any]] = {}
    crew, stop, waiting = threads(target, part, 1), Stop(), iter(lines.values())
    with (
        contextlib.closing(crew),
        Progress(
            total=len(lines), done=0, name=f"replay {target.name}", shown=progress, stop=stop
        ) as bar,
    ):
        try:
            for line in itertools.islice(waiting, crew.width):
                crew.start(line)
            while len(found) < len(lines):
                outcome = crew.next()
                if outcome is None or outcome.line is None:
                    raise outcome.error if outcome and outcome.error else KeyboardInterrupt
                reply = json.loads(outcome.line)
                found[reply["cell_id"]] = reply
                bar.step(failed="error" in reply)
                for line in itertools.islice(waiting, 1):
                    crew.start(line)
        finally:
            crew.drop()
    return [
        difference(line["cell_id"], (line, reply), (lines[line["cell_id"]], found[line["cell_id"]]))
        for line, reply in cells
    ]


def _line(
    line: Mapping[str, Any], reply: Mapping[str, Any], changes: Mapping[str, Any]
) -> dict[str, Any]:
    """What to ask: the request as it stands, with the seed that was drawn for it."""
    request = {**line["request"], **changes}
    if "record" in reply:
        request.setdefault("seed", reply["record"]["seed"])
    return {**line, "request": request}


# --- causes ---------------------------------------------------------------------------------------


def _causes(run: Run, name: str, target: Target) -> list[str]:
    """What is not as it was, of what can change an answer."""
    before, now = run.manifest["targets"][name], target.identity()
    found = []
    for key in ("weights", "tokenizer", "sampler", "kind", "url", "model"):
        if before.get(key) != now.get(key):
            found.append(f"the {key} {'has' if key != 'weights' else 'have'} changed")
    said, says = before.get("says") or {}, now.get("says") or {}
    found += [
        f"{key} was {said.get(key)}, is {says.get(key)}"
        for key in ("dtype", "context", "kernels")
        if said.get(key) != says.get(key)
    ]
    if isinstance(target, Local):
        found += _surroundings(run.manifest)
        if not says.get("strict"):
            found.append("the model is loaded without `strict=True`, so neighbours change bits")
    return found


def _surroundings(manifest: Mapping[str, Any]) -> list[str]:
    before, now = manifest["sessions"][-1]["versions"], manifests.versions()
    found = [
        f"{name} was {before.get(name)}, is {now.get(name)}"
        for name in ("toolkit", "jax", "jaxlib", "flax", "tokenizers")
        if before.get(name) != now.get(name)
    ]
    was, here = manifest.get("devices"), manifests.devices()
    if was and was != here:
        found.append(f"the device was {was['count']} {was['kind']}, is {here['kind']}")
    return found


def _edits(cells: Sequence[Any], identity: Mapping[str, Any]) -> list[str]:
    """Where requests.jsonl does not say any more what was asked."""
    found: list[str] = []
    for line, reply in cells:
        was, now = reply["asked"], asked(line)
        names = sorted(name for name in {*was, *now} if was.get(name) != now.get(name))
        found += [
            f"`{name}` was {was.get(name)!r} when it was asked, requests.jsonl has "
            f"{now.get(name)!r}"
            for name in names
        ]
        request = {**canonical(was), "prompt": line["request"]["prompt"]}
        if cell_id(request, identity) != line["cell_id"]:
            found.append("a prompt in requests.jsonl is not the one that was asked")
    return found
