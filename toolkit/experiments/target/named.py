"""Whatever a user may mean by a target."""

from __future__ import annotations

from typing import Any

from toolkit.completion.complete import LM
from toolkit.errors import InvalidRequest
from toolkit.experiments.target.local import Local
from toolkit.experiments.target.protocol import Target
from toolkit.experiments.target.remote import Remote


def as_target(what: Any, *, model: str | None = None, api_key: str | None = None) -> Target:
    """A target from a target, a loaded model, a running server or an address.

    `model` and `api_key` are for an address. Raises InvalidRequest for anything else.
    """
    if isinstance(what, LM):
        return Local(what)
    if isinstance(what, str) and what.startswith(("http://", "https://")):
        return Remote(what, model=model, api_key=api_key)
    if isinstance(url := getattr(what, "url", None), str) and not isinstance(what, Target):
        return Remote(url, model=model, api_key=api_key)
    if isinstance(what, Target):
        return what
    message = f"A target must be a loaded model, a `Remote` or an address, got {what!r:.80}."
    raise InvalidRequest(
        f'{message} Write an address like "http://127.0.0.1:8000/v1".', param="target"
    )
