"""What goes over the wire to a server, and how what comes back is read."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from typing import Any

import httpx2

from toolkit.errors import InvalidRequest, TargetError

STRICT = "/v1/openai/v1"
"""End of the base address of the specification's route."""
DONE = "[DONE]"
RETRY = frozenset({408, 425, 429, 500, 502, 503, 504, 529})
"""HTTP statuses after which the same request may succeed."""
SHOWN = 300
"""Characters of a foreign answer that a message quotes."""


# --- addresses ------------------------------------------------------------------------------------


def base(url: str) -> str:
    """The base address: without a slash or `/completions` at its end, with a path.

    Raises InvalidRequest for what is no http address.
    """
    parsed = _url(url)
    if parsed is None or parsed.scheme not in ("http", "https") or not parsed.host:
        message = f"`base_url` {url!r:.80} is no address."
        raise InvalidRequest(
            f'{message} Write it like "http://127.0.0.1:8000/v1".', param="base_url"
        )
    clean = str(parsed.copy_with(query=None, fragment=None)).rstrip("/")
    clean = clean.removesuffix("/completions").rstrip("/")
    return clean if httpx2.URL(clean).path.strip("/") else f"{clean}/v1"


def _url(url: str) -> httpx2.URL | None:
    try:
        return httpx2.URL(url)
    except (httpx2.InvalidURL, TypeError):
        return None


def root(url: str) -> str:
    """Where the routes beside the API lie: the base without `/v1`."""
    return url.removesuffix(STRICT).removesuffix("/v1")


def host(url: str) -> str:
    """Host and port."""
    parsed = httpx2.URL(url)
    return parsed.netloc.decode("ascii", "replace").rpartition("@")[2] or parsed.host


# --- errors ---------------------------------------------------------------------------------------


@contextlib.contextmanager
def named(url: str) -> Iterator[None]:
    """Turn what goes wrong on the way into a TargetError that may be tried again."""
    try:
        yield
    except httpx2.TimeoutException as error:
        raise TargetError(
            f"{url} did not answer in time ({type(error).__name__}). "
            "Give `timeout` more seconds, or see whether the server hangs.",
            retry=True,
        ) from error
    except httpx2.HTTPError as error:
        raise TargetError(
            f"{url} cannot be reached ({type(error).__name__}: {error}). Is the server running?",
            retry=True,
        ) from error


def refuse(reply: httpx2.Response) -> httpx2.Response:
    """The reply itself if it is 200; else raise a TargetError with the server's own words."""
    if reply.status_code == 200:
        return reply
    text = reply.read().decode("utf-8", "replace")
    code = reply.status_code
    raise TargetError(
        f"{reply.url.host} answered {code} to {reply.url.path}: {words(text)}",
        code=code,
        body=text,
        retry=code in RETRY,
        retry_after=_seconds(reply.headers.get("retry-after")),
    )


def words(text: str) -> str:
    """What an error body says, in any server's shape."""
    try:
        body = json.loads(text)
    except ValueError:
        return text[:SHOWN]
    for key in ("error", "detail", "message"):
        if isinstance(body, dict) and body.get(key):
            body = body[key]
    return str(body)[:SHOWN]


def _seconds(header: str | None) -> float | None:
    try:
        return max(0.0, float(header)) if header else None
    except ValueError:  # a date
        return None


# --- answers --------------------------------------------------------------------------------------


def answer(reply: httpx2.Response) -> dict[str, Any]:
    """The JSON object of a reply. Raises TargetError for anything else."""
    return _object(reply.text, str(reply.url))


def chunk(event: str, url: str) -> dict[str, Any]:
    """The JSON object of an event. Raises TargetError for anything else, and for an error event."""
    found = _object(event, url)
    if found.get("error"):
        raise TargetError(f"{url} broke its stream off: {words(event)}", body=event, retry=True)
    return found


def _object(text: str, url: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise TargetError(
            f"{url} answered what is no JSON object: {text[:SHOWN]!r}. Is it a completions API?",
            body=text,
        )
    return found


def event(line: str) -> str | None:
    """The data of a line of an event stream; None for other lines."""
    return line[5:].strip() if line.startswith("data:") else None


def has_text(found: dict[str, Any]) -> bool:
    """Whether an event brings text."""
    return any(choice.get("text") for choice in found.get("choices") or ())


# --- beside completions ---------------------------------------------------------------------------


def only_model(reply: httpx2.Response, url: str) -> str:
    """The one model of a list of models. Raises TargetError for none or several."""
    listed = answer(reply).get("data") or []
    names = [str(item.get("id")) for item in listed if isinstance(item, dict)]
    if len(names) != 1:
        told = ", ".join(names[:8]) or "none"
        raise TargetError(f"{url} has several models or none: {told}. Choose one with `model`.")
    return names[0]


def tokenizers(text: str, model: str) -> dict[str, tuple[str, dict[str, Any]]]:
    """The ways in which servers tokenise: path and body of each."""
    return {
        "vllm": ("/tokenize", {"model": model, "prompt": text, "add_special_tokens": True}),
        "llama.cpp": ("/tokenize", {"content": text, "add_special": True}),
        "llama-cpp-python": ("/extras/tokenize", {"input": text}),
    }


def token_ids(reply: httpx2.Response) -> list[int] | None:
    """The ids in a reply; None if it is none of the known shapes."""
    try:
        found = reply.json()
    except ValueError:
        return None
    ids = found.get("tokens") if isinstance(found, dict) and reply.status_code == 200 else None
    whole = isinstance(ids, list) and all(type(item) is int for item in ids)
    return ids if whole else None


def descriptions(url: str, top: str) -> dict[str, str]:
    """Where servers tell about themselves."""
    return {
        "model": f"{url}/models",
        "version": f"{top}/version",
        "props": f"{top}/props",
        "tokenizer": f"{top}/tokenizer_info",
    }


def described(name: str, reply: httpx2.Response, model: str) -> dict[str, Any]:
    """What one of those routes tells, without what changes by the minute and what is long."""
    try:
        found = reply.json() if reply.status_code == 200 else {}
    except ValueError:
        return {}
    if name == "model" and isinstance(found, dict):
        listed = found.get("data") or []
        found = next((m for m in listed if isinstance(m, dict) and m.get("id") == model), {})
    if not isinstance(found, dict):
        return {}
    return {
        key: value
        for key, value in found.items()
        if key != "created" and isinstance(value, str | int | float) and len(str(value)) < SHOWN
    }
