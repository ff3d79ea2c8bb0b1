"""The frames of a run: a row a choice, a token, an alternative; every cell once, in plan order.

`request_id`, by which the functions of `toolkit.frames` and `toolkit.plots` join rows, is the cell.
"""

from __future__ import annotations

import collections
import dataclasses
import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from toolkit.completion.record import CompletionRecord
from toolkit.completion.request import Dialect, parse
from toolkit.experiments import metrics, store
from toolkit.experiments.compact import from_json
from toolkit.experiments.settings import LIMITS

if TYPE_CHECKING:
    import pandas as pd

    from toolkit.analysis.frames.sequence import Sequence as Choice

NAMES = ("requests", "tokens", "candidates")
CHUNK = 256
"""Cells that are held as objects at a time."""

Pair = tuple[Mapping[str, Any], Mapping[str, Any]]
"""A cell's line in requests.jsonl and its line in responses.jsonl."""


def pairs(folder: Path, starts: Mapping[str, int] | None = None) -> Iterator[Pair]:
    """Each cell that has an answer, in the order of requests.jsonl. `starts`: where the answers
    start, as `store.outcomes` has found them; None looks now."""
    starts = store.outcomes(folder)[0] if starts is None else starts
    for group in _chunks(line for line in store.requests(folder) if line["cell_id"] in starts):
        replies = store.responses(folder, (starts[line["cell_id"]] for line in group))
        yield from zip(group, replies, strict=True)


def record_of(line: Mapping[str, Any], reply: Mapping[str, Any]) -> CompletionRecord:
    """The record of a cell that a model in this process has answered, named by its cell."""
    request = parse(line["request"], dialect=Dialect.PYTHON, limits=LIMITS)
    record = from_json(request, reply["record"])
    return dataclasses.replace(record, id=line["cell_id"])


def frame(found: Iterable[Pair], name: str, names: Sequence[str] = ()) -> pd.DataFrame:
    """One of the three frames, `requests` with the metrics of these names.

    Tokens and alternatives are many, and are made only where they are wanted or measured.
    """
    import pandas as pd

    wanted = ("requests", "tokens") if name == "requests" and names else (name,)
    parts = list(_parts(found, wanted))
    made = {each: _joined(pd, [part[each] for part in parts], each) for each in wanted}
    return metrics.add(made["requests"], made["tokens"], names) if len(wanted) > 1 else made[name]


def write(folder: Path, names: Sequence[str]) -> None:
    """Write the frames of a folder as parquet, each whole or not at all.

    Tokens and candidates go out in pieces, so that a long run needs little memory.
    """
    import pandas as pd

    kept: list[pd.DataFrame] = []
    beside = {name: folder / f".{name}.growing" for name in NAMES[1:]}
    try:
        with store.space(folder), _Writers(beside) as writers:
            for part in _parts(pairs(folder)):
                kept.append(part["requests"])
                writers.add(part)
            if not kept:
                writers.add(_empty())
        requests = _joined(pd, kept, "requests")
        if names:
            columns = [*metrics.ROW, "segment", "entropy", "kept_mass", "support"]
            columns += ["logprob_sampled"]
            tokens = pd.read_parquet(beside["tokens"], columns=columns)
            requests = metrics.add(requests, tokens, names)
        for name, path in beside.items():
            store.write(folder / f"{name}.parquet", lambda to, path=path: path.rename(to))
        store.write(folder / "requests.parquet", lambda to: requests.to_parquet(to, index=False))
    finally:
        for path in beside.values():
            path.unlink(missing_ok=True)


def readable(folder: Path) -> bool:
    """Whether all frames of a folder are there and whole, by the ends of their files."""
    import pyarrow
    import pyarrow.parquet

    try:
        for name in NAMES:
            pyarrow.parquet.read_metadata(folder / f"{name}.parquet")
    except (OSError, pyarrow.ArrowException):
        return False
    return True


def read(folder: Path, name: str) -> pd.DataFrame | None:
    """A frame that `write` wrote; None where it is not there or is damaged."""
    import pandas as pd
    import pyarrow

    try:
        return pd.read_parquet(folder / f"{name}.parquet")
    except (OSError, pyarrow.ArrowException):
        return None


class _Writers:
    """Parquet files that grow by frames."""

    def __init__(self, paths: Mapping[str, Path]):
        self._paths = paths
        self._open: dict[str, Any] = {}

    def add(self, part: Mapping[str, pd.DataFrame]) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        for name, path in self._paths.items():
            table = pa.Table.from_pandas(part[name], preserve_index=False)
            if name not in self._open:
                self._open[name] = pq.ParquetWriter(path, table.schema)
            self._open[name].write_table(table.cast(self._open[name].schema))

    def __enter__(self) -> _Writers:
        return self

    def __exit__(self, *_: object) -> None:
        for writer in self._open.values():
            writer.close()


def _parts(
    found: Iterable[Pair], names: Sequence[str] = NAMES
) -> Iterator[dict[str, pd.DataFrame]]:
    for group in _chunks(found):
        yield _part(group, names)


def _part(group: Sequence[Pair], names: Sequence[str]) -> dict[str, pd.DataFrame]:
    """The frames of these names, of some cells, without metrics."""
    import pandas as pd

    from toolkit.analysis.frames.levels import candidate_frame, request_frame, token_frame
    from toolkit.analysis.frames.read import sequences

    made: dict[str, list[pd.DataFrame]] = {name: [] for name in names}
    for kind, members in itertools.groupby(group, lambda pair: "record" in pair[1]):
        cells = list(members)
        lines = {line["cell_id"]: line for line, _ in cells}
        once = {line["cell_id"]: (line, reply) for line, reply in cells}.values()
        read = sequences([(record_of if kind else _body)(*pair) for pair in once], rejected=True)
        if "requests" in made:
            of = _by_request(read)
            rows = [(pair, one) for pair in cells for one in of[pair[0]["cell_id"]]]
            choices, owners = request_frame(one for _, one in rows), [pair for pair, _ in rows]
            choices = _filled(choices, owners) if not kind else choices
            made["requests"].append(_placed(choices, [line for line, _ in owners]))
        shown = [one for one in read if not one.facts.get("rejected")]
        if "tokens" in made:
            made["tokens"].append(_keyed(token_frame(shown), lines))
        if "candidates" in made:
            made["candidates"].append(_keyed(candidate_frame(shown), lines))
    return {name: _joined(pd, parts, name) for name, parts in made.items()}


def _by_request(read: Iterable[Choice]) -> dict[Any, list[Choice]]:
    """The choices of each request."""
    found = collections.defaultdict(list)
    for one in read:
        found[one.request_id].append(one)
    return found


def _body(line: Mapping[str, Any], reply: Mapping[str, Any]) -> dict[str, Any]:
    """A server's answer under the name of its cell."""
    return {**reply["body"], "id": line["cell_id"]}


def _keyed(frame: pd.DataFrame, lines: Mapping[str, Mapping[str, Any]]) -> pd.DataFrame:
    """The frame of tokens or candidates with the cell for the request, and its prompt's number."""
    import pandas as pd

    numbers = [lines[cell]["prompt_index"] for cell in frame["request_id"]]
    frame = frame.assign(prompt_index=pd.array(numbers, dtype="Int32"))
    frame.insert(0, "cell_id", frame["request_id"])
    return frame


def _placed(frame: pd.DataFrame, owners: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """The frame of requests with what only the plan knows. `owners`: the cell of each row."""
    import pandas as pd

    numbers = [line["prompt_index"] for line in owners]
    frame = frame.assign(prompt_index=pd.array(numbers, dtype="Int32"))
    frame.insert(0, "cell_id", frame["request_id"])
    for place, (name, dtype) in enumerate((("target", "str"), ("setting", "int32")), start=1):
        frame.insert(place, name, pd.array([line[name] for line in owners], dtype=dtype))
    columns = dict.fromkeys(name for line in owners for name in line["prompt_columns"])
    beside = {
        f"prompt.{name}": [line["prompt_columns"].get(name) for line in owners] for name in columns
    }
    return pd.concat([frame, pd.DataFrame(beside, index=frame.index)], axis=1)


def _filled(frame: pd.DataFrame, owners: Sequence[Pair]) -> pd.DataFrame:
    """What a server's JSON does not say and the request does."""
    import pandas as pd

    from toolkit.analysis.frames.record import flat

    asked = [line["request"] for line, _ in owners]
    columns: dict[str, Any] = {}
    for name in [column for column in frame.columns if column.startswith("param.")]:
        values = [flat(request.get(name.removeprefix("param."))) for request in asked]
        columns[name] = pd.array(values, dtype=frame[name].dtype)
    columns["prompt"] = pd.array(
        [flat(request["prompt"]) for request in asked], dtype=frame["prompt"].dtype
    )
    columns["seed"] = columns["param.seed"]
    columns["rejected"] = pd.array([False] * len(frame), dtype="boolean")
    columns["seconds"] = [reply["seconds"] for _, reply in owners]
    first = [reply["first_token"] for _, reply in owners]
    columns["ttft"] = [float("nan") if value is None else value for value in first]
    frame = frame.assign(**columns)
    counts = frame["completion_tokens"].astype("Float64").groupby(frame["request_id"])
    rate = counts.transform("sum") / frame["seconds"]
    return frame.assign(tokens_per_second=rate.astype("float64"))


def _joined(pd: Any, parts: Sequence[pd.DataFrame], name: str) -> pd.DataFrame:
    """Frames below each other."""
    if not parts:
        return _empty()[name]
    joined = pd.concat(parts, ignore_index=True) if len(parts) > 1 else parts[0]
    joined.attrs = {"schema": f"run.{name}/1"}
    return joined


def _empty() -> dict[str, pd.DataFrame]:
    """The frames of no cell."""
    from toolkit.analysis import frames as of

    requests = _placed(of.requests([]), [])
    made = {"requests": requests}
    made |= {"tokens": _keyed(of.tokens([]), {}), "candidates": _keyed(of.candidates([]), {})}
    for name, frame in made.items():
        frame.attrs = {"schema": f"run.{name}/1"}
    return made


def _chunks(items: Iterable[Any]) -> Iterator[list[Any]]:
    iterator = iter(items)
    while group := list(itertools.islice(iterator, CHUNK)):
        yield group
