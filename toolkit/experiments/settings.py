"""Settings: what `parameters`, `grid` and `zip` say, value by value and in combination."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from typing import Any

from toolkit.completion.request import Dialect, Limits, parameter_names, parse
from toolkit.completion.request.fields import RULES, CompletionRequest
from toolkit.errors import InvalidRequest
from toolkit.experiments import unfit
from toolkit.experiments.yamlfile import Place

PARAMETERS = frozenset(parameter_names(Dialect.PYTHON)) - {
    "prompt",
    "model",
    "seed",
    "n",
    "stream",
    "stream_options",
}
"""What `parameters`, `grid` and `zip` may set; the others have a key of their own or none."""

LIMITS = Limits(max_logprobs=2**31 - 1, max_sequences=128)
"""An experiment may ask its own model for every alternative."""

_TEXTS = ("stop", "suffix", "guided_choice", "user", "logprobs_mode")
NEUTRAL = CompletionRequest(prompt=("",))
"""Every parameter at its default."""


def combinations(
    grid: Mapping[str, list[Any]], zipped: Mapping[str, list[Any]]
) -> list[dict[str, Any]]:
    """Every combination of the grid with every step of the zip, the grid's last key fastest but
    for the zip."""
    crossed = [dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())]
    steps = [
        dict(zip(zipped, values, strict=True)) for values in zip(*zipped.values(), strict=True)
    ]
    return [one | step for one in crossed for step in steps or [{}]]


def canonical(fields: Mapping[str, Any]) -> dict[str, Any]:
    """The fields that make a difference, each in its one form; `prompt` left out.

    What equals its default is left out too, so that `temperature: 1` is the same request as none,
    and a parameter that a later version adds renames nothing. Fields that are no parameters stay.

    Raises InvalidRequest for values that do not fit together.
    """
    known = {name: value for name, value in fields.items() if name in RULES}
    request = parse({**known, "prompt": "x"}, dialect=Dialect.PYTHON, limits=LIMITS)
    found = {name: value for name, value in fields.items() if name not in RULES}
    for name in known:
        value, neutral = getattr(request, name), getattr(NEUTRAL, name)
        if name == "best_of":
            neutral = request.n
        if name != "prompt" and value != neutral:
            found[name] = plain(value)
    return found


def plain(value: Any) -> Any:
    """A parameter as JSON has it."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return value


def booleans(declared: Mapping[str, Any]) -> Iterator[Place]:
    """Where a boolean stands for text."""
    for place, name, value in _values(declared):
        if name in _TEXTS:
            if isinstance(value, bool):
                yield place
            elif isinstance(value, list | tuple):
                for index, item in enumerate(value):
                    if isinstance(item, bool):
                        yield (*place, index)


def mistakes(declared: Mapping[str, Any]) -> Iterator[tuple[Place, str]]:
    """Where a value breaks its parameter's rule, or cannot be recorded, and why."""
    for place, name, value in _values(declared):
        if name not in PARAMETERS or value is None:
            continue
        try:
            rule = RULES[name]
            rule.check(rule.read(value, name, Dialect.PYTHON), name, LIMITS)
        except InvalidRequest as error:
            yield place, error.message
        else:
            yield from unfit.values(value, place)
    yield from unfit.values(declared.get("extra"), ("extra",))


def _values(declared: Mapping[str, Any]) -> Iterator[tuple[Place, str, Any]]:
    """Each value of a parameter: its place, the parameter's name, the value."""
    parameters = declared.get("parameters")
    for name, value in parameters.items() if isinstance(parameters, Mapping) else ():
        yield ("parameters", name), name, value
    for key in ("grid", "zip"):
        lists = declared.get(key)
        for name, values in lists.items() if isinstance(lists, Mapping) else ():
            for index, value in enumerate(values if isinstance(values, list) else ()):
                yield (key, name, index), name, value
