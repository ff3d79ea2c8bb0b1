"""Comparing two recorded runs: cells that asked the same, side by side. Nothing is asked again."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from toolkit.errors import RunError
from toolkit.experiments.compare.evidence import (
    Evidence,
    Greedy,
    Sampled,
    Scored,
    Timing,
    Tokenised,
)
from toolkit.experiments.reading import LOWEST
from toolkit.experiments.run import Run
from toolkit.experiments.statistics import (
    PairedDifference,
    count_test,
    kernel_test,
    paired_difference,
)

if TYPE_CHECKING:
    import pandas as pd

MEASURED = ("logprob_mean", "completion_tokens")
"""Columns that are compared like metrics."""
DRAW = ("param.seed", "param.n", "param.best_of")
"""Parameters that make no other distribution."""
Rows = list[dict[str, Any]]
Key = tuple[Any, ...]


def evidence_of_runs(
    first: Run, second: Run, *, alpha: float, seed: int, names: tuple[str, str] | None = None
) -> Evidence:
    """What two runs say where they asked the same of the same prompts.

    Parameters that are constant in each run and differ between the two are the settings that are
    compared. Raises RunError where no prompt was asked with the same parameters in both.
    """
    frames = first.requests, second.requests
    differ = _differing(*frames)
    asked = _parameters(*frames, without=[name for name, _ in differ])
    cells = _paired(*(_cells(frame, asked) for frame in frames))
    settings = [name for name in asked if name not in DRAW]
    groups = _paired(*(_by(frame, ["prompt", *settings]) for frame in frames))
    if not groups:
        raise RunError(
            f"{first.path} and {second.path} have no prompt with the same parameters in both. "
            "Declare both runs with the same prompts and the same grid."
        )
    rng = np.random.default_rng(seed)
    prompts = list(dict.fromkeys(str(key[0]) for key in groups))
    index = {prompt: i for i, prompt in enumerate(prompts)}
    tokens = [_by_choice(run.tokens) for run in (first, second)]
    pairs = [(index[str(key[0])], a[0], b[0]) for key, (a, b) in cells.items()]
    greedy = [pair for pair in pairs if pair[1].get("param.temperature") == 0]
    return Evidence(
        name_a=(names or _names(first, second))[0],
        name_b=(names or _names(first, second))[1],
        prompts=tuple(prompts),
        tokenised=tuple(_tokenised(pairs, prompts)),
        scored=tuple(s for pair in pairs for s in _scored(pair, tokens)),
        greedy=tuple(_greedy(pair, tokens) for pair in greedy),
        sampled=tuple(_sampled(groups, settings, rng)),
        metrics=_metrics(groups, rng),
        timing=(_timing(frames[0]), _timing(frames[1])),
        notes=(f"{len(cells):,} cells are the same in both, {len(groups):,} but for the seed",),
        alpha=alpha,
        settings_differ=tuple(words for _, words in differ),
    )


def _names(first: Run, second: Run) -> tuple[str, str]:
    names = first.config.name, second.config.name
    return names if names[0] != names[1] else (str(first.path.name), str(second.path.name))


# --- which cells belong together ------------------------------------------------------------------


def _differing(a: pd.DataFrame, b: pd.DataFrame) -> list[tuple[str, str]]:
    """Parameters with one value in each run and another in the other one, and how to say it."""
    found = []
    for name in _parameters(a, b, without=()):
        values = [set(map(_plain, frame[name])) if name in frame else {None} for frame in (a, b)]
        if all(len(value) == 1 for value in values) and values[0] != values[1]:
            one, other = (value.pop() for value in values)
            found.append((name, f"{name.removeprefix('param.')} ({one!r} and {other!r})"))
    return found


def _parameters(a: pd.DataFrame, b: pd.DataFrame, *, without: Sequence[str]) -> list[str]:
    names = {name for frame in (a, b) for name in frame.columns if name.startswith("param.")}
    skipped = {"param.model", "param.user", *without}
    return sorted(name for name in names - skipped)


def _by(frame: pd.DataFrame, columns: Sequence[str]) -> dict[Key, Rows]:
    """The rows by the values of some columns; a column that is missing is None."""
    found: dict[Key, Rows] = {}
    for row in frame.to_dict("records"):
        plain = {str(name): _plain(value) for name, value in row.items()}
        key = tuple(plain.get(name) for name in columns)
        found.setdefault(key, []).append(plain)
    return found


def _plain(value: Any) -> Any:
    """A value of a frame as one that compares and hashes; NA is None."""
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or type(value).__name__ == "NAType" or value != value:
        return None
    return value if isinstance(value, (str, int, float, bool)) else str(value)


def _paired(a: Mapping[Key, Rows], b: Mapping[Key, Rows]) -> dict[Key, tuple[Rows, Rows]]:
    return {key: (rows, b[key]) for key, rows in a.items() if key in b}


def _cells(frame: pd.DataFrame, asked: Sequence[str]) -> dict[Key, Rows]:
    """The rows by prompt and parameters; greedy ones whatever their seed."""
    found: dict[Key, Rows] = {}
    greedy = asked.index("param.temperature") + 1 if "param.temperature" in asked else None
    for key, rows in _by(frame, ["prompt", *asked]).items():
        plain = key
        if greedy is not None and key[greedy] == 0:
            named = zip(("prompt", *asked), key, strict=True)
            plain = tuple(None if name == "param.seed" else value for name, value in named)
        found.setdefault(plain, []).extend(rows)
    return found


def _by_choice(frame: pd.DataFrame) -> dict[Key, Rows]:
    ordered = frame.sort_values(["cell_id", "choice_index", "position"], kind="stable")
    return _by(ordered, ["cell_id", "choice_index"])


# --- what they say --------------------------------------------------------------------------------

Pair = tuple[int, dict[str, Any], dict[str, Any]]
"""A prompt's number, and the first choice of both for one cell."""


def _tokenised(pairs: Sequence[Pair], prompts: Sequence[str]) -> Iterator[Tokenised]:
    seen: set[int] = set()
    for index, a, b in pairs:
        if index not in seen:
            seen.add(index)
            yield Tokenised(
                prompt=prompts[index],
                ids_a=None,
                ids_b=None,
                used_a=a.get("prompt_tokens"),
                used_b=b.get("prompt_tokens"),
            )


def _rows(row: Mapping[str, Any], tokens: Mapping[Key, Rows]) -> Rows:
    return tokens.get((row["cell_id"], row["choice_index"]), [])


def _same(a: Mapping[str, Any], b: Mapping[str, Any]) -> bool:
    if a["token_id"] is not None and b["token_id"] is not None:
        return a["token_id"] == b["token_id"]
    return a["token"] == b["token"]


def _common(pair: Pair, tokens: Sequence[Mapping[Key, Rows]]) -> list[tuple[Any, Any]]:
    """The tokens that both have from the start."""
    a, b = (_rows(row, known) for row, known in zip(pair[1:], tokens, strict=True))
    both = zip(a, b, strict=False)
    return list(itertools.takewhile(lambda rows: _same(*rows), both))


def _scored(pair: Pair, tokens: Sequence[Mapping[Key, Rows]]) -> Iterator[Scored]:
    for a, b in _common(pair, tokens):
        p, q = a["logprob"], b["logprob"]
        if p is None or q is None or min(p, q) <= LOWEST:
            continue
        best = a.get("top_token_id"), b.get("top_token_id")
        yield Scored(
            prompt_index=pair[0],
            position=int(a["position"]),
            token=str(a["token"]).encode(),
            logprob_a=float(p),
            logprob_b=float(q),
            same_best=None if None in best else best[0] == best[1],
            divergence=math.nan,
        )


def _greedy(pair: Pair, tokens: Sequence[Mapping[Key, Rows]]) -> Greedy:
    a, b = (_rows(row, known) for row, known in zip(pair[1:], tokens, strict=True))
    agreed = len(_common(pair, tokens))
    return Greedy(
        prompt_index=pair[0],
        agreed=agreed,
        length_a=len(a),
        length_b=len(b),
        same=pair[1]["text"] == pair[2]["text"],
        gap=math.nan,
        text_a=str(pair[1]["text"]),
        text_b=str(pair[2]["text"]),
    )


def _sampled(
    groups: Mapping[Key, tuple[Rows, Rows]], names: Sequence[str], rng: np.random.Generator
) -> Iterator[Sampled]:
    """The texts of each setting, all seeds and choices of a prompt together."""
    settings: dict[Key, list[tuple[Rows, Rows]]] = {}
    for key, pair in groups.items():
        settings.setdefault(key[1:], []).append(pair)
    varying = [i for i in range(len(names)) if len({key[i] for key in settings}) > 1]
    for values, pairs in settings.items():
        fields = {name.removeprefix("param."): v for name, v in zip(names, values, strict=True)}
        texts = [(_texts(a), _texts(b)) for a, b in pairs]
        if fields.get("temperature") == 0 or min(len(t) for pair in texts for t in pair) < 2:
            continue
        told = {name: value for name, value in fields.items() if value is not None}
        words = [f"{names[i].removeprefix('param.')} {values[i]}" for i in varying]
        yield Sampled(
            setting=", ".join(words) or "as recorded",
            fields_a=told,
            fields_b=told,
            texts=tuple(texts),
            kernel=kernel_test(texts, rng),
            counts=tuple(count_test(_heads(a), _heads(b), rng) for a, b in texts),
        )


def _texts(rows: Rows) -> tuple[str, ...]:
    return tuple(str(row["text"] or "") for row in rows)


def _heads(texts: Sequence[str]) -> list[str]:
    """The first word of each text, with the space in front."""
    return [text[: len(text) - len(text.lstrip())] + text.lstrip().split(" ")[0] for text in texts]


def _metrics(
    groups: Mapping[Key, tuple[Rows, Rows]], rng: np.random.Generator
) -> dict[str, PairedDifference]:
    """Metrics and likelihood, prompt by prompt: all that was asked of a prompt is averaged, since
    it is not independent."""
    prompts: dict[str, tuple[Rows, Rows]] = {}
    for key, pair in groups.items():
        both = prompts.setdefault(str(key[0]), ([], []))
        for rows, more in zip(both, pair, strict=True):
            rows += more
    shared = set.intersection(*({*rows[0]} for pair in prompts.values() for rows in pair))
    names = sorted(n for n in shared if n.startswith("metric.") or n in MEASURED)
    found = {}
    for name in names:
        means = [[_mean(pair[side], name) for pair in prompts.values()] for side in (0, 1)]
        difference = paired_difference(means[0], means[1], rng)
        if difference.pairs:
            found[name.removeprefix("metric.")] = difference
    return found


def _mean(rows: Rows, name: str) -> float:
    values = [row[name] for row in rows if row[name] is not None]
    return float(np.mean(values)) if values else math.nan


def _timing(frame: pd.DataFrame) -> Timing:
    def middle(name: str) -> float | None:
        values = frame[name].dropna() if name in frame else []
        return float(np.median(values)) if len(values) else None

    return Timing(
        first_token=middle("ttft"),
        tokens_per_second=middle("tokens_per_second"),
        seconds=middle("seconds") or math.nan,
    )
