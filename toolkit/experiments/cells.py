"""Cells: one request each, with a name that depends on nothing but that request and who answers."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

from toolkit.errors import InvalidRequest, RunError
from toolkit.experiments.declaration import Declaration
from toolkit.experiments.prompts import PromptRow
from toolkit.experiments.settings import canonical, combinations


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Setting:
    """One combination of parameters, with its seed."""

    number: int
    """Of the combination, whatever the seed."""
    fields: Mapping[str, Any]
    """What is sent, but for the prompt."""
    canonical: Mapping[str, Any]
    """What names it."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Cell:
    """One request of a plan."""

    index: int
    """Place in the whole plan."""
    id: str
    target: str
    prompt_index: int
    setting: Setting


def cell_id(request: Mapping[str, Any], identity: Mapping[str, Any]) -> str:
    """The name of a request to somebody: BLAKE2b of canonical JSON, 32 hex digits.

    `request`: its canonical fields and the prompt. `identity`: a target's; what stands under "says"
    only describes and does not count.
    """
    counted = {key: value for key, value in identity.items() if key != "says"}
    text = canonical_json({"request": request, "target": counted})
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


def canonical_json(value: Any) -> str:
    """One text for equal values: sorted keys, no spaces, Unicode as it is."""
    return json.dumps(
        value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    )


def settings(declared: Declaration, source: str = "the declaration") -> list[Setting]:
    """All combinations with all seeds, seeds fastest. `source`: the file, as messages name it.

    Raises RunError for a combination whose parameters do not fit together, and for one that stands
    twice under two spellings.
    """
    found: list[Setting] = []
    seen: dict[str, Mapping[str, Any]] = {}
    for number, varied in enumerate(combinations(declared.grid, declared.zip)):
        fields = {**declared.parameters, **declared.extra, **varied}
        fields = {name: value for name, value in fields.items() if value is not None}
        if declared.n != 1:
            fields["n"] = declared.n
        for seed in declared.seeds if declared.seeds is not None else [None]:
            seeded = fields if seed is None else {**fields, "seed": seed}
            try:
                named = canonical(seeded)
            except InvalidRequest as error:
                where = f"{source}: `{_key(declared, error.param)}`"
                raise RunError(
                    f"{where}: the setting {varied or fields} is refused: {error}"
                ) from None
            found.append(Setting(number=number, fields=seeded, canonical=named))
        key = canonical_json(found[-1].canonical)
        if key in seen:
            keys = " and ".join(f"`{name}`" for name in ("grid", "zip") if getattr(declared, name))
            raise RunError(
                f"{source}: {keys}: the settings {seen[key]} and {varied} are the same request. "
                "Remove one of them."
            )
        seen[key] = varied
    return found


def _key(declared: Declaration, name: str | None) -> str:
    """Where a declaration sets a parameter."""
    for key in ("grid", "zip", "parameters", "extra"):
        if name in getattr(declared, key):
            return f"{key}.{name}"
    return name if name in ("n", "seeds") else "parameters"


def plan(
    prompts: Sequence[PromptRow],
    chosen: Sequence[Setting],
    *,
    target: str,
    identity: Mapping[str, Any],
    first: int = 0,
) -> list[Cell]:
    """The cells of one target: every prompt with every setting, settings fastest, so that equal
    prompts follow each other and are computed once. `first`: index of the first."""
    cells = []
    for prompt_index, row in enumerate(prompts):
        for setting in chosen:
            request = {**setting.canonical, "prompt": row.prompt}
            cells.append(
                Cell(
                    index=first + len(cells),
                    id=cell_id(request, identity),
                    target=target,
                    prompt_index=prompt_index,
                    setting=setting,
                )
            )
    return cells


def in_shard(cell: str, shard: tuple[int, int] | None) -> bool:
    """Whether the cell of this name belongs to shard `(i, n)`, i from 1 to n; None is all."""
    if shard is None:
        return True
    return int(cell[:15], 16) % shard[1] == shard[0] - 1


def read_shard(text: str) -> tuple[int, int]:
    """`"2/8"` as (2, 8). Raises RunError for anything else."""
    left, slash, right = text.partition("/")
    if slash and left.isdecimal() and right.isdecimal() and 1 <= int(left) <= int(right):
        return int(left), int(right)
    raise RunError(f"`shard` {text!r} is not like 1/4, 2/4, 3/4 or 4/4. Count from 1.")
