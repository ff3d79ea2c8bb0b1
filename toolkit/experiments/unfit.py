"""What stands in a declaration, has the right type, and cannot be asked or recorded."""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

from toolkit.experiments.yamlfile import Base60, Place

OURS = ("cell_id", "target", "setting")
"""Columns of `run.requests` beside those of `toolkit.frames.requests`."""


def half(text: str) -> bool:
    """Whether text holds half of a surrogate pair, which no file can."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return True
    return False


def quoted(value: str) -> str:
    """What to do about a number in base 60."""
    return f'{value} is a number in base 60 to YAML 1.1. Quote it: "{value}"'


def values(value: Any, place: Place) -> Iterator[tuple[Place, str]]:
    """Where a value holds what JSON does not have, and what it is."""
    if isinstance(value, Base60):
        yield place, f"{quoted(value)}."
    elif isinstance(value, str):
        if half(value):
            yield place, f"{value!r:.60} holds half of a character. Write whole ones."
    elif isinstance(value, Mapping):
        for key, item in value.items():
            if not isinstance(key, str | int) or isinstance(key, Base60):
                yield place, f"the key {key!r:.60} is no text. Quote it."
            yield from values(item, (*place, str(key)))
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            yield from values(item, (*place, index))
    elif isinstance(value, float):
        if not math.isfinite(value):
            yield place, f"{value} is not finite, and JSON has no such number. Choose another."
    elif value is not None and not isinstance(value, int):
        kind = type(value).__name__
        yield place, f"{value!r:.60} is a {kind}, which JSON does not have. Quote it."


def addresses(declared: Mapping[str, Any]) -> Iterator[tuple[Place, str]]:
    """Where the address of a server is none."""
    for key in ("models", "targets"):
        listed = declared.get(key)
        for index, item in enumerate(listed if isinstance(listed, list) else ()):
            place: Place = (key, index)
            if isinstance(item, Mapping) and "base_url" in item:
                place, item = (*place, "base_url"), item["base_url"]
            elif not str(item).startswith(("http://", "https://")):
                continue
            if isinstance(item, str) and not _address(item):
                yield (
                    place,
                    f'{item!r:.80} is no address. Write it like "http://127.0.0.1:8000/v1".',
                )


def _address(url: str) -> bool:
    try:
        parsed = urlsplit(url)
        _ = parsed.port
    except ValueError:
        return False
    return parsed.scheme in ("http", "https") and bool(parsed.hostname)


def columns(plots: Sequence[Any]) -> Iterator[tuple[Place, str]]:
    """Where a plot names a column that `run.requests` never has. Those of prompts and metrics
    depend on others: they are not looked at."""
    if not plots:
        return
    from toolkit.analysis.frames.columns import REQUESTS  # pandas, where there are plots

    known = (*REQUESTS, *OURS)
    for index, plot in enumerate(plots):
        for axis in ("x", "y", "by"):
            name = getattr(plot, axis)
            if name is None or name in known or name.startswith(("metric.", "prompt.")):
                continue
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"Did you mean `{near[0]}`?" if near else f"There are {', '.join(known)}."
            yield ("plots", index, axis), f"`{name}` is no column of `requests`. {hint}"
