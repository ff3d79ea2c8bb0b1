"""Arguments that count something."""

from __future__ import annotations

import sys

from toolkit.errors import InvalidRequest


def check_count(name: str, value: object, low: int, high: int) -> None:
    """Raise InvalidRequest unless it is a whole number from `low` to `high`."""
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        limit = f"{low} or more" if high == sys.maxsize else f"in [{low}, {high}]"
        message = f"`{name}` must be a whole number, {limit}; got {value!r:.80}."
        raise InvalidRequest(f"{message} Leave it out for the default.", param=name)
