"""What the explorer asks for: the sampling parameters of one request, in any spelling."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from typing import Any

import yaml

from toolkit.completion.request import CompletionRequest
from toolkit.errors import InvalidRequest

NEUTRAL = CompletionRequest(prompt=("",))
"""Every parameter as if it were not given."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings:
    """Sampling parameters with the names, ranges and defaults of `CompletionRequest`.

    Ranges are not checked here: the request that is made of them is.
    """

    temperature: float = NEUTRAL.temperature
    top_p: float = NEUTRAL.top_p
    top_k: int = NEUTRAL.top_k
    min_p: float = NEUTRAL.min_p
    typical_p: float = NEUTRAL.typical_p
    presence_penalty: float = NEUTRAL.presence_penalty
    frequency_penalty: float = NEUTRAL.frequency_penalty
    repetition_penalty: float = NEUTRAL.repetition_penalty
    logit_bias: Mapping[int, float] = dataclasses.field(default_factory=dict)
    guided_choice: tuple[str, ...] = ()
    """No choices: any text."""
    seed: int = 0
    max_tokens: int = 32
    """Most tokens of a text that is sampled to its end."""

    @classmethod
    def of(cls, parameters: Mapping[str, Any]) -> Settings:
        """From keyword arguments of a completion. Raises InvalidRequest for those that are not
        explored."""
        return cls().changed(parameters)

    def changed(self, parameters: Mapping[str, Any]) -> Settings:
        """With other values; None makes a parameter neutral. Raises InvalidRequest for those that
        are not explored."""
        for name in parameters:
            if name not in NAMES:
                raise InvalidRequest(
                    f"`{name}` is not a parameter of the explorer. It takes {', '.join(NAMES)}.",
                    param=name,
                )
        found = {
            name: getattr(DEFAULT, name) if value is None else value
            for name, value in parameters.items()
        }
        return dataclasses.replace(self, **found)

    @classmethod
    def read(cls, request: CompletionRequest) -> Settings:
        """Those of a request, whose values have their one form."""
        given = {name: getattr(request, name) for name in NAMES}
        return cls(**{name: value for name, value in given.items() if value is not None})

    @property
    def parameters(self) -> dict[str, Any]:
        """Keyword arguments of a completion; what is neutral is left out."""
        found: dict[str, Any] = {}
        for name in NAMES:
            value = getattr(self, name)
            if name in ("seed", "max_tokens") or value != getattr(DEFAULT, name):
                found[name] = list(value) if isinstance(value, tuple) else value
        return found

    @property
    def draws(self) -> str:
        """What the tokens of a text depend on beside the prompt; `max_tokens` only ends it."""
        return repr({name: v for name, v in self.parameters.items() if name != "max_tokens"})


DEFAULT = Settings()
NAMES = tuple(field.name for field in dataclasses.fields(Settings))


def as_code(prompt: str, parameters: Mapping[str, Any]) -> str:
    """The request as a call on a model that is named `lm`."""
    lines = [f"    {name}={value!r},\n" for name, value in parameters.items()]
    return f"answer = lm.complete(\n    {prompt!r},\n{''.join(lines)})"


def as_json(prompt: str, parameters: Mapping[str, Any], model: str) -> str:
    """The request as the body for `POST /v1/completions`."""
    body = {"model": model, "prompt": prompt, **parameters}
    return json.dumps(body, indent=2, ensure_ascii=False)


def as_yaml(prompt: str, parameters: Mapping[str, Any], model: str) -> str:
    """The request as the declaration of an experiment, ready for a `grid`."""
    asked = {name: value for name, value in parameters.items() if name != "seed"}
    declared = {
        "name": "explored",
        "models": [model],
        "prompts": [prompt],
        "parameters": asked,
        "seeds": [parameters["seed"]],
    }
    return yaml.safe_dump(declared, sort_keys=False, allow_unicode=True)
