"""Who may come in: the key, the rate of a client, and how many requests are handled at one time."""

from __future__ import annotations

import hashlib
import hmac
import math
import threading
import time
from collections.abc import Iterable, Mapping
from typing import Any

import limits
from werkzeug.datastructures import WWWAuthenticate
from werkzeug.exceptions import ServiceUnavailable, Unauthorized

from toolkit.errors import QueueFull
from toolkit.server.client import DRAINING, bearer
from toolkit.server.options import keys_of, rate_of

REOPENS = 10
"""Seconds after which a client may look whether a server that closed is back."""


class Guard:
    """Stands before the routes. Keeps no key of a client, only whether it is one of its own."""

    def __init__(
        self,
        *,
        api_keys: str | Iterable[str] = (),
        rate_limit: str | None = None,
        max_requests: int | None = None,
    ):
        self._keys = keys_of(api_keys)
        self._rate = rate_of(rate_limit)
        self._window = limits.strategies.MovingWindowRateLimiter(limits.storage.MemoryStorage())
        self._most = max_requests
        self._inside = 0
        self._lock = threading.Lock()

    @property
    def wants_key(self) -> bool:
        """Whether there are keys."""
        return bool(self._keys)

    def check_open(self, environ: Mapping[str, Any]) -> None:
        """Raises ServiceUnavailable for what came after the server began to close."""
        if environ.get(DRAINING):
            raise ServiceUnavailable(
                "The server is closing and takes no more work. Ask again when it is back.",
                retry_after=REOPENS,
            )

    def check_key(self, environ: Mapping[str, Any]) -> None:
        """Raises Unauthorized unless the request carries one of the keys, if there are any.

        Takes the same time for every wrong key of one length.
        """
        if not self._keys:
            return
        given = bearer(environ)
        # A list, so that no comparison is left out.
        if given is None or not any([hmac.compare_digest(given, key) for key in self._keys]):
            raise Unauthorized(
                "The key is missing or wrong. Send it as `Authorization: Bearer KEY`.",
                www_authenticate=WWWAuthenticate("bearer"),
            )

    def check_rate(self, environ: Mapping[str, Any]) -> None:
        """Count a request of this client. Raises QueueFull when it has had its share."""
        if self._rate is None:
            return
        client = self._identity(environ)
        if not self._window.hit(self._rate, client):
            wait = self._window.get_window_stats(self._rate, client).reset_time - time.time()
            raise QueueFull(
                f"More than {self._rate} from one client. Try again later.",
                retry_after=max(1, math.ceil(wait)),
            )

    def _identity(self, environ: Mapping[str, Any]) -> str:
        """A digest of the client's key. Its address where no key is wanted: anybody can make one
        up."""
        key = bearer(environ) if self._keys else None
        if key is None:
            return environ.get("REMOTE_ADDR") or "unknown"
        return hashlib.blake2b(key, digest_size=16).hexdigest()

    def enter(self) -> None:
        """Take one of the places. Raises QueueFull when none is free; `leave` gives it back."""
        with self._lock:
            if self._most is not None and self._inside >= self._most:
                raise QueueFull(
                    f"{self._inside} requests are being handled, and no more at one time. "
                    "Try again later."
                )
            self._inside += 1

    def leave(self) -> None:
        """Give a place back."""
        with self._lock:
            self._inside -= 1
