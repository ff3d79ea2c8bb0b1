"""`sweep`: a declaration in one call of Python."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from toolkit.completion.complete import LM
from toolkit.errors import InvalidRequest
from toolkit.experiments.conduct import Options, conduct, resolve, run_folder
from toolkit.experiments.declaration import (
    ModelPart,
    ServerPart,
    check_declaration,
    target_name,
)
from toolkit.experiments.run import Run
from toolkit.experiments.target import Local, Target


def sweep(
    who: LM | Target | Sequence[LM | Target],
    prompts: str | Sequence[Any],
    *,
    grid: Mapping[str, Sequence[Any]] | None = None,
    zip: Mapping[str, Sequence[Any]] | None = None,
    seeds: int | Sequence[int] | None = (0,),
    n: int = 1,
    out: str | Path | None = None,
    name: str = "sweep",
    question: str | None = None,
    metrics: Sequence[str] = (),
    plots: Sequence[Mapping[str, Any]] = (),
    extra: Mapping[str, Any] | None = None,
    progress: bool = True,
    **fixed: Any,
) -> Run:
    """Ask a model or a server for every prompt with every setting and seed, and record it all.

        run = tk.sweep(lm, ["Once upon", "The sea"], grid={"temperature": [0, 0.7]}, seeds=3)
        run.requests

    `who`: a loaded model, a target, or several. `prompts`: text, token ids, or a list of them.
    `grid`: values in all combinations; `zip`: lists of one length, side by side. `seeds`: a list,
    or how many from 0 on; None leaves the seed to the target. `n`: choices of each request.
    `fixed`: parameters of every request. `extra`: fields that only a server knows. `out`: the run's
    folder; None is one in `runs/` named by the time and by what is asked. Where the folder holds
    answers already, only what is missing is asked.

    Stop it as any cell: what is recorded stays, and the same call goes on. Raises RunError for
    what cannot be asked, with what to do about it.
    """
    targets = [_target(item) for item in (who if isinstance(who, list | tuple) else [who])]
    fields = {
        "name": name,
        "question": question,
        "targets": [_part(target) for target in targets],
        "prompts": _prompts(prompts),
        "grid": _lists(grid),
        "zip": _lists(zip),
        "seeds": _values(seeds),
        "n": _plain(n),
        "metrics": _values(metrics),
        "plots": _values(plots),
        "parameters": {key: _plain(value) for key, value in fixed.items() if value is not None},
        "extra": _lists(extra, _plain),
    }
    declared = check_declaration(fields, "sweep")
    resolved = resolve(declared, Path(), "sweep")
    known = {target.name: target for target in targets}
    folder = Path(out) if out is not None else run_folder(resolved, Path("runs"))
    options = Options(
        progress=progress,
        opener=lambda part: contextlib.nullcontext(known[target_name(part)]),
    )
    return conduct(resolved, folder, options)


def _target(item: Any) -> Target:
    if isinstance(item, LM):
        return Local(item)
    if isinstance(item, Target):
        return item
    raise InvalidRequest(
        f"`who` must be a loaded model or a target, got {item!r:.80}. Use `toolkit.load(...)`.",
        param="who",
    )


def _part(target: Target) -> ModelPart | ServerPart:
    """How config.yaml calls a target."""
    said = target.identity()
    if isinstance(target, Local):
        return ModelPart(model=target.lm.name, name=target.name)
    return ServerPart(  # a sweep asks what it is told and nothing else
        base_url=said.get("url", target.name),
        model=said.get("model"),
        name=target.name,
        probe=False,
    )


def _prompts(prompts: Any) -> Any:
    prompts = [prompts] if isinstance(prompts, str) else _values(prompts)
    ids = bool(prompts) and isinstance(prompts, list) and all(type(i) is int for i in prompts)
    return [prompts] if ids else prompts


def _lists(given: Any, made: Callable[[Any], Any] | None = None) -> Any:
    """A mapping with its values as plain lists; what is none is left to the declaration's check."""
    if not isinstance(given, Mapping):
        return {} if given is None else given
    return {key: (made or _values)(value) for key, value in given.items()}


def _values(values: Any) -> Any:
    """Arrays, series, tuples and their scalars as a list of plain values. Text, mappings and sets,
    which have no order, stay as they are: the declaration's check refuses them."""
    values = _plain(values)
    if isinstance(values, str | bytes | Mapping | set | frozenset) or not isinstance(
        values, Iterable
    ):
        return values
    return [_plain(item) for item in values]


def _plain(value: Any) -> Any:
    """Arrays and their scalars as Python has them."""
    return value.tolist() if hasattr(value, "tolist") else value
