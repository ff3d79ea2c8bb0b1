"""Anybody's server as a target: one thin client, raw answers, timing."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from typing import Any, Self

import httpx2

from toolkit.errors import InvalidRequest
from toolkit.experiments.target import wire
from toolkit.experiments.target.protocol import Answer, Events

DIALECTS = ("auto", "strict", "legacy")
TIMEOUT = 600.0
"""Seconds that one answer may take, unless said otherwise."""
CONNECTIONS = 128


class Remote:
    """A server that completes prompts: ours, vLLM, llama.cpp's, Llama Stack, OpenAI.

    `base_url`: what clients call the base, such as "http://127.0.0.1:8000/v1"; an address without
    a path gets "/v1". `model`: None asks the server, which must have exactly one. `api_key` is sent
    as a bearer token and shown nowhere. `timeout`: seconds for one answer. `dialect`: "strict" for
    the specification's fields alone, "legacy" for OpenAI's and vLLM's; "auto" takes strict where
    the address ends with "/v1/openai/v1". `client`: an `httpx2.Client` to use instead of an own
    one; it stays open.

    Fields go out as they are given, without those that are None. Nothing is tried twice: whoever
    asks decides, by `TargetError.retry`.
    """

    def __init__(
        self,
        base_url: str,
        *,
        model: str | None = None,
        api_key: str | None = None,
        timeout: float = TIMEOUT,
        dialect: str = "auto",
        name: str | None = None,
        client: httpx2.Client | None = None,
    ):
        if dialect not in DIALECTS:
            message = f"`dialect` must be one of {', '.join(DIALECTS)}, got {dialect!r:.80}."
            raise InvalidRequest(f"{message} Leave it out for auto.", param="dialect")
        self.url = wire.base(base_url)
        self.root = wire.root(self.url)
        strict = self.url.endswith(wire.STRICT) if dialect == "auto" else dialect == "strict"
        self.dialect = "strict" if strict else "legacy"
        self.name = name or f"{wire.host(self.url)}{f' {model}' if model else ''}"
        headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        self._headers = headers
        self._own = client is None
        self._client = client or httpx2.Client(
            timeout=httpx2.Timeout(timeout, connect=min(timeout, 20.0)),
            limits=httpx2.Limits(max_connections=CONNECTIONS),
        )
        self._model = model
        self._tokenizer: str | None = None
        self._lock = threading.Lock()

    @property
    def model(self) -> str:
        """The model that is asked for. Raises TargetError where the server has none or several."""
        with self._lock:
            if self._model is None:
                self._model = wire.only_model(self.get(f"{self.url}/models"), self.url)
            return self._model

    def complete(self, fields: Mapping[str, Any]) -> Answer:
        """Ask once; see `Target.complete`."""
        body, began = self._body(fields), time.perf_counter()
        reply = self.post(f"{self.url}/completions", body)
        seconds = time.perf_counter() - began
        return Answer(body=wire.answer(reply), seconds=seconds)

    def stream(self, fields: Mapping[str, Any]) -> Events:
        """Ask once for events and read them to the end."""
        body, began = self._body(fields) | {"stream": True}, time.perf_counter()
        chunks, first, done = [], None, False
        with (
            wire.named(self.url),
            self._client.stream(
                "POST", f"{self.url}/completions", json=body, headers=self._headers
            ) as reply,
        ):
            wire.refuse(reply)
            for line in reply.iter_lines():
                event = wire.event(line)
                if event is None:
                    continue
                if event == wire.DONE:
                    done = True
                    break
                chunk = wire.chunk(event, self.url)
                chunks.append(chunk)
                if first is None and wire.has_text(chunk):
                    first = time.perf_counter() - began
        return Events(
            chunks=tuple(chunks),
            done=done,
            seconds=time.perf_counter() - began,
            first_token=first,
            content_type=reply.headers.get("content-type"),
        )

    def tokenize(self, text: str) -> list[int] | None:
        """The ids of a string prompt; None where the server has no route for it.

        Known are vLLM's and ours, llama.cpp's, and llama-cpp-python's.
        """
        for way, (path, fields) in wire.tokenizers(text, self.model).items():
            if self._tokenizer in (None, way):
                reply = self._send("POST", self.root + path, fields)
                ids = wire.token_ids(reply)
                if ids is not None:
                    self._tokenizer = way
                    return ids
        return None

    def identity(self) -> dict[str, Any]:
        """Address and model; under "says" what the server tells of itself."""
        return {
            "kind": "remote",
            "url": self.url,
            "model": self.model,
            "dialect": self.dialect,
            "says": self._says(),
        }

    def close(self) -> None:
        """Close the connections. May be called twice."""
        if self._own:
            self._client.close()

    def get(self, url: str) -> httpx2.Response:
        """Fetch an address of this server. Raises TargetError for anything but 200."""
        return wire.refuse(self._send("GET", url))

    def post(self, url: str, body: Any) -> httpx2.Response:
        """Send JSON to an address of this server. Raises TargetError for anything but 200."""
        return wire.refuse(self._send("POST", url, body))

    def _send(self, method: str, url: str, body: Any = None) -> httpx2.Response:
        with wire.named(self.url):
            return self._client.request(method, url, json=body, headers=self._headers)

    def _body(self, fields: Mapping[str, Any]) -> dict[str, Any]:
        given = {name: value for name, value in fields.items() if value is not None}
        return {"model": given.pop("model", None) or self.model, **given}

    def _says(self) -> dict[str, Any]:
        """What the routes that servers are known to have answer; nothing where they have none."""
        found: dict[str, Any] = {}
        for name, url in wire.descriptions(self.url, self.root).items():
            reply = self._send("GET", url)
            told = wire.described(name, reply, self.model)
            if told:
                found[name] = told
        return found

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Remote {self.url}, {self.dialect}, model {self._model or 'the only one'}>"
