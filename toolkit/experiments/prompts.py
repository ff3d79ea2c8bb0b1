"""Prompts: inline, or the rows of a JSONL, CSV or parquet file."""

from __future__ import annotations

import csv
import dataclasses
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from toolkit.errors import RunError
from toolkit.experiments.declaration import PromptFile
from toolkit.experiments.fields import pieces
from toolkit.experiments.unfit import half

LONGEST = 2**31 - 1
"""Characters that a field of a CSV file may have."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class PromptRow:
    """One prompt, and what its file says beside it."""

    prompt: str | list[int]
    columns: Mapping[str, Any] = dataclasses.field(default_factory=dict)


def read_prompts(declared: Any, folder: Path) -> list[PromptRow]:
    """The prompts of a declaration whose file names are relative to `folder`.

    Raises RunError for a file that cannot be read or has a row without a prompt.
    """
    if not isinstance(declared, PromptFile):
        return [PromptRow(prompt=prompt) for prompt in declared]
    path = folder / declared.file
    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        known = ", ".join(_READERS)
        raise RunError(f"`prompts.file` {declared.file!r} is none of {known}. Convert it.")
    try:
        rows = []
        for number, row in enumerate(reader(path), start=1):
            rows.append(_row(row, number, declared))
            if number == declared.limit:
                break
    except (OSError, UnicodeDecodeError) as error:
        raise RunError(f"`prompts.file` {path} cannot be read: {error}") from None
    if not rows:
        raise RunError(f"`prompts.file` {path} holds no prompt. Add a row.")
    return rows


def _row(row: Mapping[str, Any], number: int, declared: PromptFile) -> PromptRow:
    where = f"`prompts.file` {declared.file}, row {number}"
    for name, value in row.items():
        if isinstance(value, str) and half(value):
            raise RunError(f"{where}: `{name}` {value!r:.60} holds half of a character. Mend it.")
    if declared.template is not None:
        return PromptRow(prompt=_filled(declared.template, row, where), columns=_plain(row))
    prompt = row.get(declared.column)
    if isinstance(prompt, list) and prompt and all(type(item) is int for item in prompt):
        if min(prompt) < 0:
            raise RunError(f"{where}: `{declared.column}` holds {min(prompt)}: ids count from 0.")
        return PromptRow(prompt=prompt, columns=_others(row, declared.column))
    if not isinstance(prompt, str):
        has = ", ".join(map(str, row))
        raise RunError(
            f"{where}: `{declared.column}` must be text or token ids, got {prompt!r:.60}. "
            f"The row has {has}; name one with `prompts.column`."
        )
    return PromptRow(prompt=prompt, columns=_others(row, declared.column))


def _filled(template: str, row: Mapping[str, Any], where: str) -> str:
    """A template with the columns of a row in it."""
    text = ""
    for before, name in pieces(template):
        if name is not None and name not in row:
            raise RunError(
                f"{where}: `template` cannot be filled: there is no {name!r}. "
                f"The row has {', '.join(map(str, row))}; write {{{{ and }}}} for braces."
            )
        text += before + ("" if name is None else str(row[name]))
    return text


def _others(row: Mapping[str, Any], column: str) -> dict[str, Any]:
    return _plain({name: value for name, value in row.items() if name != column})


def _plain(row: Mapping[str, Any]) -> dict[str, Any]:
    """Cells as JSON has them; dates and the like as text."""
    return {str(name): json.loads(json.dumps(value, default=str)) for name, value in row.items()}


def to_jsonl(rows: Iterable[PromptRow]) -> bytes:
    """The prompts as a file that `read_prompts` reads."""
    lines = ({**row.columns, "prompt": row.prompt} for row in rows)
    return b"".join(json.dumps(line).encode() + b"\n" for line in lines)


def _jsonl(path: Path) -> Iterator[Mapping[str, Any]]:
    with path.open(encoding="utf-8-sig") as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            try:
                value = json.loads(line)
            except ValueError as error:
                raise RunError(f"{path}:{number} is not JSON: {error}.") from None
            if isinstance(value, str):
                value = {"prompt": value}
            if not isinstance(value, Mapping):
                raise RunError(f"{path}:{number} is neither an object nor a string.")
            yield value


def _csv(path: Path) -> Iterator[Mapping[str, Any]]:
    """Rows under the names of the first one; empty lines are left out."""
    csv.field_size_limit(LONGEST)  # of the whole module: it only ever grows
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.reader(file)
        try:
            names = next(reader, [])
            twice = [name for name in names if names.count(name) > 1]
            if twice:
                raise RunError(f"`prompts.file` {path} has two columns {twice[0]!r}. Rename one.")
            for row in filter(None, reader):
                if len(row) != len(names):
                    raise RunError(
                        f"`prompts.file` {path}:{reader.line_num}: the row has {len(row)} fields, "
                        f"and the header {len(names)}. Quote fields that hold commas or quotes."
                    )
                yield dict(zip(names, row, strict=True))
        except csv.Error as error:
            raise RunError(
                f"`prompts.file` {path}:{reader.line_num} is no CSV: {error}. Mend the line."
            ) from None


def _parquet(path: Path) -> Iterator[Mapping[str, Any]]:
    import pyarrow
    import pyarrow.parquet

    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            for batch in file.iter_batches():
                yield from batch.to_pylist()
    except pyarrow.ArrowInvalid as error:
        raise RunError(f"`prompts.file` {path} is no parquet file: {error}") from None


_READERS = {".jsonl": _jsonl, ".ndjson": _jsonl, ".csv": _csv, ".parquet": _parquet}
