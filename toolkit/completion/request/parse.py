"""`parse`: the fields of a request, whatever they hold, to a `CompletionRequest` or an error.

The order is the contract's: unknown fields, types, the model, ranges, combinations. What needs the
tokenizer or the model comes after it, in `check_tokens`.
"""

from __future__ import annotations

import difflib
from collections.abc import Container, Iterable, Mapping
from typing import Any

from toolkit.completion.request.dialect import DEFAULT_LIMITS, Dialect, Limits
from toolkit.completion.request.fields import (
    DEFAULT_MAX_TOKENS,
    RULES,
    CompletionRequest,
    parameter_names,
)
from toolkit.completion.request.rules import quote, refuse, show
from toolkit.errors import InvalidRequest, ModelNotFound


def parse(
    fields: object,
    *,
    dialect: Dialect,
    limits: Limits = DEFAULT_LIMITS,
    known_models: Container[str] | None = None,
    ignore_unknown: bool = False,
) -> CompletionRequest:
    """Read and check everything that needs no model. `fields`: a mapping, or it is refused.

    `known_models`: refuses other names, at the place in the order where the contract has it; None
    leaves that to the caller. `ignore_unknown`: drops fields that `dialect` does not know.

    Raises InvalidRequest, and ModelNotFound for a model that is not in `known_models`.
    """
    if not isinstance(fields, Mapping):
        raise InvalidRequest(f"A request must be a JSON object, got {show(fields)}.")
    if not ignore_unknown:
        _refuse_unknown(fields, dialect)
    given = _given(fields, dialect)
    values = {name: RULES[name].read(value, name, dialect) for name, value in given.items()}
    _find_model(values.get("model"), known_models)
    for name, value in values.items():
        RULES[name].check(value, name, limits)
    request = _resolve(values, dialect)
    _check_candidates(request, limits)
    _check_prompt_logprobs(request)
    _check_stream(request, given)
    _check_endings(request)
    return request


def _refuse_unknown(fields: Mapping[Any, Any], dialect: Dialect) -> None:
    known = parameter_names(dialect)
    unknown = [name for name in fields if name not in known]
    if not unknown:
        return
    name = unknown[0]
    others = f" Also unknown: {', '.join(map(quote, unknown[1:6]))}." if unknown[1:] else ""
    hint = _way_out(name, known) + others
    message = f"{quote(name)} is not a parameter of {dialect.place}. {hint}"
    raise refuse(name if isinstance(name, str) else show(name), message)


def _way_out(name: object, known: tuple[str, ...]) -> str:
    places = [d.place for d in Dialect if name in parameter_names(d)]
    if places:
        return f"It belongs to {' and '.join(places)}: use it there, or omit it."
    near = difflib.get_close_matches(str(name)[:60], known, n=1)
    return f"Did you mean `{near[0]}`?" if near else "Remove it; nothing would read it."


def _given(fields: Mapping[Any, Any], dialect: Dialect) -> dict[str, Any]:
    """The known fields that carry a value, in the order of checking."""
    if dialect is Dialect.LEGACY and "prompt" in fields and fields["prompt"] is None:
        fields = {**fields, "prompt": ""}
    given = {name: fields[name] for name in parameter_names(dialect) if name in fields}
    nulls = [name for name, value in given.items() if value is None]
    if dialect is Dialect.STRICT and nulls:
        raise refuse(nulls[0], f"`{nulls[0]}` must not be null here. Omit the field.")
    given = {name: value for name, value in given.items() if value is not None}
    for name in ("model", "prompt") if dialect is Dialect.STRICT else ("prompt",):
        if name not in given:
            raise refuse(name, f"`{name}` is required. Add it to the request.")
    return {k: _plain(v) for k, v in given.items()} if dialect is Dialect.PYTHON else given


def _plain(value: Any, depth: int = 2) -> Any:
    """Arrays, series and their scalars (whatever has `tolist`) as lists and numbers."""
    if isinstance(value, (list, tuple)):
        return [_plain(item, depth - 1) for item in value] if depth else value
    if callable(getattr(value, "tolist", None)) and not isinstance(value, type):
        return value.tolist()
    return value


def _find_model(name: str | None, known: Container[str] | None) -> None:
    if name is None or known is None or name in known:
        return
    names = sorted(map(str, known))[:5] if isinstance(known, Iterable) else []
    hint = f" Use {', '.join(map(repr, names))}." if names else " See the list of models."
    raise ModelNotFound(f"`model` {show(name)} is not served here.{hint}", param="model")


def _resolve(values: dict[str, Any], dialect: Dialect) -> CompletionRequest:
    """Fill in what follows from other fields, and give each parameter its one name."""
    values = dict(values)
    if "structured_outputs" in values:
        if "guided_choice" in values:
            message = "`structured_outputs` and `guided_choice` say the same. Give one of them."
            raise refuse("structured_outputs", message)
        values["guided_choice"] = values.pop("structured_outputs")
    values.setdefault("best_of", values.get("n", 1))
    values["top_k"] = max(0, values.get("top_k", 0))  # -1 is vLLM's spelling of 0
    return CompletionRequest(dialect=dialect, **values)


def _check_candidates(request: CompletionRequest, limits: Limits) -> None:
    n, best_of, prompts = request.n, request.best_of, len(request.prompt)
    if best_of < n:
        message = f"`best_of` must be at least `n` = {n}, got {best_of}. Omit it for n."
        raise refuse("best_of", message)
    if best_of > n and request.stream:
        message = f"`best_of` {best_of} over `n` = {n} cannot stream: the best show at the end."
        raise refuse("best_of", f"{message} Set `stream` to false or `best_of` to {n}.")
    if best_of * prompts > limits.max_sequences:
        param = "prompt" if prompts > limits.max_sequences else "n" if n == best_of else "best_of"
        total = f"{prompts} prompts with {best_of} candidates each, {prompts * best_of} sequences"
        limit = f"is over the limit of {limits.max_sequences} that is set here"
        raise refuse(param, f"`{param}`: {total}, {limit}. Send fewer at a time.")


def _check_prompt_logprobs(request: CompletionRequest) -> None:
    if request.stream and request.prompt_logprobs is not None:
        message = "`prompt_logprobs` cannot be streamed. Set `stream` to false."
        raise refuse("prompt_logprobs", message)
    if request.prompt_logprobs == -1 and request.dialect is Dialect.STRICT:
        message = "`prompt_logprobs` must be at least 0, got -1."
        raise refuse("prompt_logprobs", f"{message} {Dialect.LEGACY.place} takes -1 for all.")


def _check_stream(request: CompletionRequest, given: Mapping[str, Any]) -> None:
    if given.get("stream_options") and not request.stream:
        message = "`stream_options` is for streams. Set `stream` to true or omit it."
        raise refuse("stream_options", message)


def _check_endings(request: CompletionRequest) -> None:
    """Nothing may end a guided choice early, and `min_tokens` must fit into `max_tokens`."""
    budget = DEFAULT_MAX_TOKENS if request.max_tokens is None else request.max_tokens
    if request.min_tokens > budget:
        message = f"`min_tokens` {show(request.min_tokens)} is over `max_tokens` = {budget}."
        raise refuse("min_tokens", f"{message} Raise `max_tokens`.")
    for choice in request.guided_choice or ():
        for stop in request.stop:
            if stop in choice:
                message = f"`stop` {show(stop)} occurs in the `guided_choice` {show(choice)}"
                raise refuse("stop", f"{message} and would cut it. Remove one of them.")
    if request.guided_choice and request.stop_token_ids:
        message = "`stop_token_ids` could cut a `guided_choice`. Remove one of them."
        raise refuse("stop_token_ids", message)
