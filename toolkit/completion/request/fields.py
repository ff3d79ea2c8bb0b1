"""`CompletionRequest`: one field a parameter, with its rule, its default and who takes it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from toolkit.completion.request.dialect import Dialect, Limits
from toolkit.completion.request.prompt import Prompt, PromptForms
from toolkit.completion.request.rules import (
    Alternatives,
    Bias,
    Boolean,
    Choices,
    Ids,
    Integer,
    Number,
    OneOf,
    Rule,
    Stops,
    Text,
    quote,
    refuse,
    wrong,
)

DEFAULT_MAX_TOKENS = 16
"""`max_tokens` of a request that gives none, as long as the context has room for it."""

_ALL = frozenset(Dialect)
_EXTENSION = frozenset({Dialect.LEGACY, Dialect.PYTHON})
_PYTHON = frozenset({Dialect.PYTHON})


@dataclasses.dataclass(frozen=True, kw_only=True)
class StreamOptions:
    """What a stream sends beside the text."""

    include_usage: bool = False
    """One extra event with the usage, after the last choice has finished."""
    continuous_usage_stats: bool = False
    """Legacy route, with `include_usage`: every event carries the usage up to there."""


_NO_OPTIONS = StreamOptions()


@dataclasses.dataclass(frozen=True)
class StreamOptionsRule(Rule):
    """An object; keys that are not known here are ignored, as the contract says."""

    def read(self, value: Any, name: str, dialect: Dialect) -> StreamOptions:
        if not isinstance(value, Mapping):
            raise wrong(name, "an object", value)
        names = ["include_usage"]
        if dialect is Dialect.LEGACY:
            names.append("continuous_usage_stats")
        given = {key: value[key] for key in names if key in value}
        if dialect is not Dialect.STRICT:
            given = {key: flag for key, flag in given.items() if flag is not None}
        for key, flag in given.items():
            if not isinstance(flag, bool):
                raise wrong(name, f"an object whose `{key}` is true or false", flag)
        return StreamOptions(**given)


@dataclasses.dataclass(frozen=True)
class StructuredOutputs(Rule):
    """vLLM's spelling of `guided_choice`: `{"choice": [...]}`. Other constraints are refused."""

    def read(self, value: Any, name: str, dialect: Dialect) -> tuple[str, ...]:
        if not isinstance(value, Mapping) or value.get("choice") is None:
            raise wrong(name, 'an object like {"choice": ["yes", "no"]}', value)
        for key in value:
            if key != "choice" and value[key] is not None:
                message = f"`{name}` takes only `choice`, got {quote(key)}. Remove it."
                raise refuse(name, message)
        return Choices().read(value["choice"], name, dialect)

    def check(self, value: tuple[str, ...], name: str, limits: Limits) -> None:
        Choices().check(value, name, limits)


def _parameter(
    rule: Rule, default: Any = dataclasses.MISSING, *, on: frozenset[Dialect] = _ALL
) -> Any:
    """A dataclass field that knows its rule and the surfaces that take it."""
    metadata = {"rule": rule, "dialects": on}
    if isinstance(default, dict):
        return dataclasses.field(default_factory=dict, metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


@dataclasses.dataclass(frozen=True, kw_only=True)
class CompletionRequest:
    """A request whose fields have the right types and ranges and fit together; see `parse`."""

    dialect: Dialect = Dialect.PYTHON
    """The surface that the request arrived on."""

    model: str | None = _parameter(Text(), None)
    """Name of the model. Required on the strict route; elsewhere None is the only one served."""
    prompt: tuple[Prompt, ...] = _parameter(PromptForms())
    """One or more, each a string or token ids. Required; the string `""` starts a document."""
    max_tokens: int | None = _parameter(Integer(0), None)
    """Most tokens to generate, 0 to the context. None is 16, or what the context has room for."""
    temperature: float = _parameter(Number(0.0, 2.0, "Use 0 for greedy decoding."), 1.0)
    """Divides the logits. 0 to 2, default 1; 0 takes the best token, of equals the lowest id."""
    top_p: float = _parameter(Number(0.0, 1.0), 1.0)
    """Draw from the smallest set with this mass. 0 to 1, default 1 (all); 0 is the top one."""
    n: int = _parameter(Integer(1, 128), 1)
    """Choices returned for each prompt. 1 to 128, default 1."""
    best_of: int = _parameter(Integer(1, 20), 1)
    """Candidates a prompt; the best `n` by mean logprob return. n to 20, default n."""
    seed: int | None = _parameter(Integer(-(2**63), 2**63 - 1), None)
    """Any signed 64-bit integer, all of them ordinary. None draws a fresh one for each request."""
    stop: tuple[str, ...] = _parameter(Stops(64), ())
    """Up to 64 non-empty strings that end the text before themselves. Default none."""
    logprobs: int | None = _parameter(Alternatives(flag=True), None)
    """Alternatives a token: 0 to the cap (20), -1 all, true 1. Default None: no logprobs."""
    echo: bool = _parameter(Boolean(), False)
    """Put the prompt in front of the text. Default false."""
    suffix: str = _parameter(Text(), "")
    """Text after the completion: infilled to where the model can, else appended. Default none."""
    frequency_penalty: float = _parameter(Number(-2.0, 2.0), 0.0)
    """Taken off a token's logit once for each time it was generated. -2 to 2, default 0."""
    presence_penalty: float = _parameter(Number(-2.0, 2.0), 0.0)
    """Taken off a token's logit once if it was generated at all. -2 to 2, default 0."""
    logit_bias: Mapping[int, float] = _parameter(Bias(), {})
    """Added to the logits of these ids. Values -100 to 100, default none."""
    guided_choice: tuple[str, ...] | None = _parameter(Choices(), None)
    """The text is one of these distinct, non-empty strings. Default None, any text."""
    prompt_logprobs: int | None = _parameter(Alternatives(), None)
    """Alternatives a token of the prompt: 0 to the cap (20), -1 all. Default None."""
    stream: bool = _parameter(Boolean(), False)
    """Send the answer in pieces as they come. Default false."""
    stream_options: StreamOptions = _parameter(StreamOptionsRule(), _NO_OPTIONS)  # noqa: RUF009
    """What a stream sends beside the text. Only with `stream`."""
    user: str | None = _parameter(Text(), None)
    """Any string; has no effect."""

    top_k: int = _parameter(Integer(-1, 2**31 - 1), 0, on=_EXTENSION)
    """Draw from the k most probable tokens. 0 and -1 keep all, default 0."""
    min_p: float = _parameter(Number(0.0, 1.0), 0.0, on=_EXTENSION)
    """Draw from tokens with this share of the largest probability. 0 to 1, default 0 (all)."""
    typical_p: float = _parameter(Number(0.0, 1.0), 1.0, on=_EXTENSION)
    """Draw from the smallest most typical set with this mass. 0 to 1, default 1 (all)."""
    repetition_penalty: float = _parameter(Number(0.01, 100.0, "1 is neutral."), 1.0, on=_EXTENSION)
    """Divides positive, multiplies negative logits of seen tokens. 0.01 to 100, default 1."""
    stop_token_ids: tuple[int, ...] = _parameter(Ids(64), (), on=_EXTENSION)
    """Up to 64 ids that end the text, beside EOS. Default none."""
    ignore_eos: bool = _parameter(Boolean(), False, on=_EXTENSION)
    """EOS does not end the text. Default false."""
    min_tokens: int = _parameter(Integer(0), 0, on=_EXTENSION)
    """No EOS and no `stop_token_ids` before this many tokens. 0 to `max_tokens`, default 0."""
    add_special_tokens: bool = _parameter(Boolean(), True, on=_EXTENSION)
    """Let the tokenizer put BOS in front of string prompts, if it does so at all. Default true."""
    include_stop_str_in_output: bool = _parameter(Boolean(), False, on=_EXTENSION)
    """Cut the text after the stop string instead of before it. Default false."""
    return_token_ids: bool = _parameter(Boolean(), False, on=_EXTENSION)
    """Legacy answers carry `token_ids` and `prompt_token_ids`. Default false."""
    return_tokens_as_token_ids: bool = _parameter(Boolean(), False, on=_EXTENSION)
    """Logprobs name tokens `token_id:17` instead of by their text. Default false."""
    logprobs_mode: str = _parameter(OneOf(("raw", "processed")), "raw", on=_EXTENSION)
    """`raw`: the model's own distribution; `processed`: what the sampler drew from. Default raw."""
    details: bool = _parameter(Boolean(), False, on=_PYTHON)
    """Compute rank, entropy, support, kept mass and `dropped_by` for the record. Default false."""


_FIELDS = [field for field in dataclasses.fields(CompletionRequest) if field.metadata]

RULES: dict[str, Rule] = {
    **{field.name: field.metadata["rule"] for field in _FIELDS},
    "structured_outputs": StructuredOutputs(),
}
"""The rule of each parameter, in the order in which they are checked."""

_DIALECTS: dict[str, frozenset[Dialect]] = {
    **{field.name: field.metadata["dialects"] for field in _FIELDS},
    "structured_outputs": frozenset({Dialect.LEGACY}),
}


def parameter_names(dialect: Dialect) -> tuple[str, ...]:
    """The names of the parameters that a surface takes."""
    return tuple(name for name, dialects in _DIALECTS.items() if dialect in dialects)
