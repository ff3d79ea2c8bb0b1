"""What the options of a server may be. Every ValueError names the option, the value and the
rule."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import limits


def check_options(
    *,
    api_keys: str | Iterable[str] = (),
    rate_limit: str | None = None,
    max_requests: int | None = None,
    request_timeout: float | None = None,
    max_body: int = 1,
) -> None:
    """Raises ValueError for an option of `create_app` that makes no sense."""
    keys_of(api_keys)
    rate_of(rate_limit)
    _check_count("max_requests", max_requests, "Omit it for no limit.")
    _check_count("max_body", max_body, "Omit it for 10 MiB.")
    if request_timeout is not None and not (_number(request_timeout) and request_timeout > 0):
        raise ValueError(
            f"`request_timeout` must be seconds above 0, got {request_timeout!r}. "
            "Leave it out for the default."
        )


def keys_of(api_keys: str | Iterable[str]) -> list[bytes]:
    """The keys as clients send them, in UTF-8; one string is one key. Blanks around a key go, as
    they do in a header.

    Raises ValueError for what no header could carry, without quoting it.
    """
    given: list[Any] = [api_keys] if isinstance(api_keys, (str, bytes)) else list(api_keys)
    return [_key(key) for key in given]


def _key(key: Any) -> bytes:
    if not isinstance(key, str):
        raise ValueError(f"`api_keys` must be strings, got {type(key).__name__}. Decode it.")
    key = key.strip(" \t")
    if not key:
        raise ValueError("`api_keys` holds an empty key, which anybody has. Remove it.")
    if any(character < " " or character == "\x7f" for character in key):
        raise ValueError(
            "`api_keys` holds a key with a control character, which no header can carry. Use "
            "letters, digits and signs."
        )
    try:
        return key.encode()
    except UnicodeEncodeError:
        raise ValueError(
            "`api_keys` holds a key that is not Unicode text, so no client can send it. Use "
            "letters, digits and signs."
        ) from None


def rate_of(rate_limit: str | None) -> limits.RateLimitItem | None:
    """The rate that "60/minute" stands for; None for none."""
    if rate_limit is None:
        return None
    try:
        (rate,) = limits.parse_many(rate_limit)
        if rate.amount < 1:
            raise ValueError(rate_limit)
    except ValueError:
        raise ValueError(
            f'`rate_limit` must be like "60/minute", one limit of at least 1, got {rate_limit!r}. '
            "Omit it for no limit."
        ) from None
    return rate


def _check_count(name: str, value: Any, otherwise: str) -> None:
    whole = isinstance(value, int) and not isinstance(value, bool)
    if value is not None and not (whole and value >= 1):
        rule = f"`{name}` must be a whole number of at least 1"
        raise ValueError(f"{rule}, got {value!r}. {otherwise}")


def _number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and not math.isnan(value)
