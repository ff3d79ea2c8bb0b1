"""`create_app`: the Flask application. Routes, one reader of bodies, nothing of the contract's
meaning."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from typing import Any

from flask import Flask, Response, g, request
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from werkzeug.exceptions import MethodNotAllowed, NotFound, RequestEntityTooLarge
from werkzeug.routing import BaseConverter

from toolkit.completion.complete import LM
from toolkit.completion.json import parse_json
from toolkit.completion.request import Dialect, parse
from toolkit.completion.response import legacy, strict
from toolkit.completion.run import Run
from toolkit.errors import InvalidRequest, ModelNotFound
from toolkit.server.client import ClientGone
from toolkit.server.document import openapi
from toolkit.server.exchange import GONE, Exchange
from toolkit.server.guard import Guard
from toolkit.server.metrics import Metrics
from toolkit.server.options import check_options
from toolkit.server.reply import dialect_of, error_reply, events, json_reply
from toolkit.server.tokens import detokenized, information, tokenized

MAX_BODY = 10 * 2**20
"""Most bytes of a request's body."""


def create_app(
    lms: LM | Iterable[LM],
    *,
    api_keys: str | Iterable[str] = (),
    rate_limit: str | None = None,
    max_requests: int | None = None,
    request_timeout: float | None = None,
    ignore_unknown_fields: bool = False,
    strict_done: bool = True,
    max_body: int = MAX_BODY,
) -> Flask:
    """The application that serves one model or several.

    `api_keys`: if there are any, every route but /health wants one of them; a string is one key.
    `rate_limit`: of the completions of one client, such as "60/minute". `max_requests`: completions
    handled at one time, beyond which the answer is 429. `request_timeout`: seconds that one may
    take. `ignore_unknown_fields`: the legacy route drops them instead of refusing.
    `strict_done`: strict streams end with `[DONE]`. `max_body`: bytes.

    Raises ValueError for two models of one name, none at all, or an option that makes no sense.
    """
    check_options(
        max_requests=max_requests, request_timeout=request_timeout, max_body=max_body
    )  # the guard checks its own
    models = _by_name([lms] if isinstance(lms, LM) else list(lms))
    guard = Guard(api_keys=api_keys, rate_limit=rate_limit, max_requests=max_requests)
    routes = Routes(
        models,
        guard,
        request_timeout=request_timeout,
        ignore_unknown_fields=ignore_unknown_fields,
        strict_done=strict_done,
    )
    app = Flask("toolkit.server", static_folder=None)
    app.config["MAX_CONTENT_LENGTH"] = max_body
    app.config["REQUEST_TIMEOUT"] = request_timeout
    app.url_map.converters["name"] = _Name
    app.url_map.merge_slashes = False
    routes.register(app)
    return app


class _Name(BaseConverter):
    """The name of a model in a path, with the slashes that are in it."""

    regex = ".+"
    part_isolating = False


def _by_name(lms: list[LM]) -> dict[str, LM]:
    models = {lm.name: lm for lm in lms}
    if not models or len(models) < len(lms):
        names = ", ".join(repr(lm.name) for lm in lms) or "none"
        raise ValueError(f"`lms` must be models with distinct names, got {names}.")
    return models


class Routes:
    """The views of one application, and what happens before and after each."""

    def __init__(
        self,
        models: Mapping[str, LM],
        guard: Guard,
        *,
        request_timeout: float | None,
        ignore_unknown_fields: bool,
        strict_done: bool,
    ):
        self.models = models
        self.guard = guard
        self.metrics = Metrics(models)
        self.request_timeout = request_timeout
        self.ignore_unknown_fields = ignore_unknown_fields
        self.strict_done = strict_done
        self._created = int(time.time())
        self._document = openapi(wants_key=guard.wants_key)

    def register(self, app: Flask) -> None:
        """Put everything into the application."""
        app.before_request(self.arrive)
        app.after_request(self.leave)
        app.register_error_handler(Exception, self.fail)
        for path, view in {
            Dialect.STRICT.place: lambda: self.complete(Dialect.STRICT),
            Dialect.LEGACY.place: lambda: self.complete(Dialect.LEGACY),
            "/tokenize": self.tokenize,
            "/detokenize": self.detokenize,
        }.items():
            app.add_url_rule(path, path, view, methods=["POST"])
        for path, view in {
            "/v1/openai/v1/models": self.list_models,
            "/v1/models": self.list_models,
            "/v1/openai/v1/models/<name:model>": self.show_model,
            "/v1/models/<name:model>": self.show_model,
            "/health": self.health,
            "/metrics": self.show_metrics,
            "/tokenizer_info": self.tokenizer_info,
            "/openapi.json": self.show_document,
        }.items():
            app.add_url_rule(path, path, view, methods=["GET"])

    # --- around every request ---------------------------------------------------------------------

    def arrive(self) -> None:
        """Start the clock, and ask for the key."""
        g.exchange = Exchange(request, self.guard, self.metrics)
        if request.path != "/health":
            self.guard.check_key(request.environ)

    def leave(self, response: Response) -> Response:
        """End the exchange: now, or for a stream when the server closes it."""
        exchange: Exchange = g.exchange
        if response.is_streamed:
            response.call_on_close(lambda: exchange.end(response.status_code))
        else:
            exchange.end(response.status_code)
        return response

    def fail(self, error: Exception) -> Response:
        """Any error, in the shape of the route that it happened on."""
        if isinstance(error, ClientGone):
            return Response(status=GONE)
        return error_reply(_in_words(error), dialect_of(request.path))

    # --- completions ------------------------------------------------------------------------------

    def complete(self, dialect: Dialect) -> Response:
        """Everything is checked and queued before the first byte, also for a stream."""
        exchange: Exchange = g.exchange
        self.guard.check_open(request.environ)
        self.guard.check_rate(request.environ)
        exchange.enter()
        run = self._run(_body(), dialect, exchange)
        exchange.note_run(run)
        if run.request.stream:
            done = self.strict_done or dialect is not Dialect.STRICT
            response = Response(events(run, dialect, exchange, done=done))
            response.headers["Content-Type"] = "text/event-stream; charset=utf-8"
            response.headers["Cache-Control"] = "no-cache"
            response.headers["X-Accel-Buffering"] = "no"  # for nginx, which else holds events back
        else:
            record = run.finish()
            response = json_reply(strict(record) if dialect is Dialect.STRICT else legacy(record))
        response.headers["x-seed"] = str(run.seed)
        if dialect is Dialect.STRICT and (counts := _prompt_entries(run)):
            response.headers["x-prompt-logprobs-count"] = counts
        return response

    def _run(self, fields: object, dialect: Dialect, exchange: Exchange) -> Run:
        name = fields.get("model") if isinstance(fields, dict) else None
        # Another name is refused by `parse`, at the contract's place in the order of checks.
        lm = self._find(name) if isinstance(name, str) and name in self.models else self._first
        parsed = parse(
            fields,
            dialect=dialect,
            limits=lm.limits,
            known_models=self.models,
            ignore_unknown=self.ignore_unknown_fields and dialect is Dialect.LEGACY,
        )
        lm = self._find(parsed.model)
        return Run(lm, parsed, watch=exchange.watch(self.request_timeout))

    @property
    def _first(self) -> LM:
        return next(iter(self.models.values()))

    def _find(self, name: str | None) -> LM:
        """The model of this name; without a name, the only one there is."""
        if name is None:
            if len(self.models) > 1:
                names = ", ".join(map(repr, self.models))
                message = f"`model` is required: several are served. Use one of {names}."
                raise InvalidRequest(message, param="model")
            return self._first
        if name not in self.models:
            names = ", ".join(map(repr, self.models))
            message = f"`model` {name[:60]!r} is not served here. Use {names}."
            raise ModelNotFound(message, param="model")
        return self.models[name]

    # --- the others -------------------------------------------------------------------------------

    def list_models(self) -> Response:
        """What `model` may be."""
        entries = [self._entry(name) for name in self.models]
        return json_reply({"object": "list", "data": entries})

    def show_model(self, model: str) -> Response:
        """One of them. Raises ModelNotFound."""
        self._find(model)
        return json_reply(self._entry(model))

    def _entry(self, name: str) -> dict[str, Any]:
        return {
            "id": name,
            "object": "model",
            "created": self._created,
            "owned_by": "completion-toolkit",
            "max_model_len": self.models[name].context,
        }

    def health(self) -> Response:
        """Whether every engine takes work. Raises EngineClosed if one does not, and
        ServiceUnavailable while the server closes."""
        self.guard.check_open(request.environ)
        for lm in self.models.values():
            lm.engine.submit([])
        return json_reply({"status": "ok"})

    def show_metrics(self) -> Response:
        """For Prometheus."""
        return Response(self.metrics.text(), content_type=CONTENT_TYPE_LATEST)

    def show_document(self) -> Response:
        """The specification of the routes."""
        return json_reply(self._document)

    def tokenizer_info(self) -> Response:
        """What lm-evaluation-harness asks of a remote tokenizer."""
        return json_reply(information(self._find(request.args.get("model"))))

    def tokenize(self) -> Response:
        """Text to ids."""
        return json_reply(tokenized(_body(), self._find))

    def detokenize(self) -> Response:
        """Ids to text."""
        return json_reply(detokenized(_body(), self._find))


def _body() -> object:
    """The JSON of the request, whatever its Content-Type says."""
    return parse_json(request.get_data(cache=False))


def _in_words(error: Exception) -> Exception:
    """Flask's errors with what was wrong and the way out."""
    place = f"{request.method[:20]} {request.path[:60]!r}"
    if isinstance(error, NotFound):
        error.description = f"There is no {place} here. /openapi.json lists the routes."
    elif isinstance(error, MethodNotAllowed):
        allowed = " and ".join(m for m in error.valid_methods or () if m in ("GET", "POST"))
        error.description = f"{request.path[:60]!r} takes {allowed}, not {request.method[:20]}."
    elif isinstance(error, RequestEntityTooLarge):
        error.description = f"The body has more than {request.max_content_length} bytes. Send less."
    return error


def _prompt_entries(run: Run) -> str | None:
    """How many entries of the prompt stand in front of `logprobs.content`, prompt by prompt.

    A first token that nothing conditions has none, nor has an inserted BOS.
    """
    asked = run.request
    if asked.prompt_logprobs is None and not (asked.echo and asked.logprobs is not None):
        return None
    return ",".join(str(len(prompt.ids) - max(prompt.inserted, 1)) for prompt in run.prompts)
