"""A declaration: the question, what is asked, of whom. Read from YAML, or made in Python."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)

from toolkit.errors import RunError
from toolkit.experiments import fields, unfit
from toolkit.experiments.metrics import METRICS
from toolkit.experiments.settings import PARAMETERS, booleans, mistakes
from toolkit.experiments.yamlfile import Place, dotted, read_yaml


class Part(BaseModel):
    """A piece of a declaration: unknown keys are refused, nothing changes later."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


Text = Annotated[str, BeforeValidator(fields.text)]


class ModelPart(Part):
    """A model in this process. The fields are arguments of `toolkit.load`."""

    model: Text | None = None
    """Folder, `.gguf` file or hub id; null is the embedded default."""
    name: Text | None = None
    dtype: Text | None = None
    context: int | None = Field(default=None, ge=1)
    max_batch: int = Field(default=64, ge=1)


class ServerPart(Part):
    """A server that completes prompts."""

    base_url: Text
    model: Text | None = None
    name: Text | None = None
    dialect: Literal["auto", "strict", "legacy"] = "auto"
    api_key_env: Text | None = None
    """Name of the environment variable that holds the key. Keys do not belong in files."""
    concurrency: int = Field(default=8, ge=1, le=128)
    """Requests in flight."""
    timeout: float = Field(default=600.0, gt=0)
    """Seconds that one answer may take."""
    attempts: int = Field(default=5, ge=1, le=20)
    """How often a request is sent where trying again is right: no connection, 429, 5xx."""
    probe: bool = True
    """Ask first what the server means by its fields, and keep that in the manifest: fewer than
    forty short requests, about eighty where it gives one choice a request; once a run."""


def _target(value: Any) -> Any:
    """A word is a model, an address a server."""
    if isinstance(value, Part):
        return value
    fields.text(value)
    if isinstance(value, str):
        is_url = value.startswith(("http://", "https://"))
        return ServerPart(base_url=value) if is_url else ModelPart(model=value)
    if isinstance(value, Mapping):
        return (ServerPart if "base_url" in value else ModelPart).model_validate(value)
    return ModelPart() if value is None else value


TargetPart = Annotated[ModelPart | ServerPart, BeforeValidator(_target)]


class PromptFile(Part):
    """Prompts in a file: JSONL, CSV or parquet. Columns beside the prompt come into the frames."""

    file: Text
    """Relative to the declaration."""
    column: Text = "prompt"
    template: Annotated[Text | None, AfterValidator(fields.template)] = None
    """Makes the prompt from several columns, as in "{question}\\nAnswer:"."""
    limit: int | None = Field(default=None, ge=1)
    """Only the first so many rows."""


def _prompts(value: Any) -> Any:
    """One prompt may stand without a list."""
    if isinstance(value, Mapping):
        return PromptFile.model_validate(value)
    return [value] if isinstance(value, str) else value


Prompt = Annotated[str | list[int], BeforeValidator(fields.prompt)]
Prompts = Annotated[list[Prompt], Field(min_length=1)]


def _known(names: Mapping[str, Any]) -> Mapping[str, Any]:
    for name in names:
        if name not in PARAMETERS:
            raise ValueError(_unknown(name))
    return names


def _unknown(name: str) -> str:
    if name in ("seed", "n", "model", "prompt"):
        key = {"seed": "seeds", "model": "models", "prompt": "prompts"}.get(name, name)
        return f"`{name}` is not set here. Use the key `{key}` of the declaration"
    if name in ("stream", "stream_options"):
        return f"`{name}` is not for experiments: answers are recorded whole. Remove it"
    near = difflib.get_close_matches(name, sorted(PARAMETERS), n=1)
    hint = f"Did you mean `{near[0]}`?" if near else "`extra` is for fields that only a server has"
    return f"`{name}` is not a parameter. {hint}"


Values = Annotated[list[Any], Field(min_length=1), AfterValidator(fields.distinct)]
Parameters = Annotated[dict[str, Any], AfterValidator(_known)]
Grid = Annotated[dict[str, Values], AfterValidator(_known)]
Columns = Annotated[dict[str, Annotated[list[Any], Field(min_length=1)]], AfterValidator(_known)]


Seed = Annotated[int, BeforeValidator(fields.no_boolean), AfterValidator(fields.seed)]


class Plot(Part):
    """A picture of the run's frames, drawn at the end into `plots/`."""

    kind: Literal["line", "scatter", "calibration"] = "line"
    """Means of y over x with their errors; means of x and y; share of y over bins of x."""
    x: Text = "param.temperature"
    """A column of `run.requests`."""
    y: Text = "logprob_mean"
    by: Text | None = None
    """A line, or for "scatter" a dot, for each value of this column; null is each setting."""
    scale: Literal["linear", "log"] = "linear"
    """Of y."""
    title: Text | None = None
    name: Text | None = None
    """Of the file; default x and y."""


def _metric(name: str) -> str:
    if name not in METRICS:
        near = difflib.get_close_matches(name, METRICS, n=1)
        hint = f"Did you mean `{near[0]}`?" if near else f"There are {', '.join(METRICS)}"
        raise ValueError(f"`{name}` is not a metric. {hint}")
    return name


Metric = Annotated[Text, AfterValidator(_metric)]


class Declaration(Part):
    """One experiment: every prompt with every setting and seed, on every target."""

    name: Annotated[Text, AfterValidator(fields.file_name)]
    """Part of the run folder's name."""
    question: Text | None = None
    models: list[TargetPart] = []
    """Models in this process; of `models` and `targets` none is the embedded default."""
    targets: list[TargetPart] = []
    """Models and servers."""
    prompts: Annotated[Prompts | PromptFile, BeforeValidator(_prompts)]
    parameters: Parameters = {}
    """Of every request."""
    extra: dict[str, Any] = {}
    """Fields that only a server knows. They are sent as they are; models in this process refuse."""
    grid: Grid = {}
    """Each parameter's values, in all combinations."""
    zip: Columns = {}
    """Lists of one length, taken side by side: the first values together, then the second."""
    seeds: Annotated[
        list[Seed] | None,
        BeforeValidator(fields.seeds),
        AfterValidator(lambda v: v if v is None else fields.distinct(v)),
    ] = [0]
    """Seeds of each setting, or how many; null leaves the seed to the target, which draws one."""
    n: int = Field(default=1, ge=1, le=128)
    """Choices of each request."""
    metrics: list[Metric] = []
    plots: list[Plot] = []

    @model_validator(mode="after")
    def _fits(self) -> Declaration:
        lengths = {name: len(values) for name, values in self.zip.items()}
        if len(set(lengths.values())) > 1:
            raise ValueError(f"`zip` needs lists of one length, got {lengths}. Fill the short ones")
        for one, other in (("grid", "zip"), ("grid", "parameters"), ("zip", "parameters")):
            both = getattr(self, one).keys() & getattr(self, other).keys()
            if both:
                name = min(both)
                raise ValueError(f"`{name}` stands in `{one}` and in `{other}`. Keep one of them")
        if self.seeds == []:
            raise ValueError("`seeds` is empty. Give how many, a list, or null")
        if self.extra and any(isinstance(part, ModelPart) for part in self.asked):
            raise ValueError("`extra` is for servers, and a model is asked too. Remove one of them")
        for column in (c for plot in self.plots for c in (plot.x, plot.y, plot.by) if c):
            name = column.removeprefix("metric.")
            if name != column and name not in self.metrics:
                raise ValueError(f"`plots` needs the metric `{name}`. Add it to `metrics`")
        names = [target_name(part) for part in self.asked]
        twice = [name for name in names if names.count(name) > 1]
        if twice:
            raise ValueError(f"two targets are called {twice[0]!r}. Give each a `name` of its own")
        return self

    @property
    def asked(self) -> tuple[ModelPart | ServerPart, ...]:
        """All that is asked, in order."""
        return (*self.models, *self.targets) or (ModelPart(),)


def target_name(part: ModelPart | ServerPart) -> str:
    """How frames call a target."""
    if part.name:
        return part.name
    if isinstance(part, ServerPart):
        return f"{part.base_url} {part.model}" if part.model else part.base_url
    return part.model or "default"


def read_declaration(path: str | Path, *, recorded: bool = False) -> Declaration:
    """The declaration in a YAML file; its name defaults to the file's. `recorded`: to look at a
    run, for which nobody needs to have an address.

    Raises RunError with file, line and key of what is wrong, and what to do about it.
    """
    path = Path(path)
    value, lines = read_yaml(path)
    if not isinstance(value, Mapping):
        raise RunError(f"{path} holds no declaration. It needs `prompts:` at least.")
    name = re.sub(r"[^\w.-]+", "-", path.stem)
    declared = check_declaration({"name": name, **value}, str(path), lines, recorded=recorded)
    return declared.model_copy(
        update={
            key: [_beside(part, path.parent) for part in getattr(declared, key)]
            for key in ("models", "targets")
        }
    )


def _beside(part: ModelPart | ServerPart, folder: Path) -> ModelPart | ServerPart:
    """A model that is a path relative to the declaration, from here."""
    if not isinstance(part, ModelPart) or part.model is None:
        return part
    path = folder / part.model
    if not path.exists():
        return part
    return part.model_copy(update={"model": str(path.resolve()), "name": target_name(part)})


def check_declaration(
    value: Mapping[str, Any],
    source: str,
    lines: Mapping[Place, int] | None = None,
    *,
    recorded: bool = False,
) -> Declaration:
    """Fields as a declaration. Raises RunError that names `source`, line and key."""
    lines, checked = lines or {}, None
    try:
        found = [_boolean(place, source, lines) for place in booleans(value)]
        if not found:
            checked = Declaration.model_validate(dict(value))
            wrong = [*mistakes(value)]
            if not recorded:
                wrong += [*unfit.addresses(value), *unfit.columns(checked.plots)]
            found = [
                f"{_where(place, source, lines)}: `{dotted(place)}`: {message}"
                for place, message in wrong
            ]
    except ValidationError as error:
        errors = {_place(item["loc"], value): item for item in reversed(error.errors())}
        found = [
            _said(item, place, source, lines)
            for place, item in reversed(errors.items())
            if not any(other != place and other[: len(place)] == place for other in errors)
        ]
    if found or checked is None:
        raise RunError("\n".join(dict.fromkeys(found[:5])))
    return checked


def _where(place: Place, source: str, lines: Mapping[Place, int]) -> str:
    """The file, and the line of the nearest thing that has one."""
    for end in range(len(place), -1, -1):
        if place[:end] in lines:
            return f"{source}:{lines[place[:end]]}"
    return source


def _boolean(place: Place, source: str, lines: Mapping[Place, int]) -> str:
    return (
        f"{_where(place, source, lines)}: `{dotted(place)}` is a boolean and must be text: YAML "
        'reads an unquoted yes, no, on or off as one. Quote it, as in "yes".'
    )


def _said(error: Any, place: Place, source: str, lines: Mapping[Place, int]) -> str:
    """One mistake as a line: where, what, and the way out."""
    where = _where(place, source, lines)
    if error["type"] == "extra_forbidden":
        near = difflib.get_close_matches(str(place[-1]), _keys(place), n=1)
        hint = f" Did you mean `{near[0]}`?" if near else " Remove it."
        return f"{where}: `{dotted(place)}` is not a key of a declaration.{hint}"
    if error["type"] == "missing":
        return f"{where}: `{dotted(place)}` is required. Add it."
    text = error["msg"].removeprefix("Value error, ").rstrip(".")
    text = text.replace("Input should be", "must be")
    text = text if error["type"] == "value_error" else f"{text}, got {error['input']!r:.60}"
    if error["type"] == "list_type":
        text += ". Write a list, as in [1, 2]"
    end = "" if text.endswith("?") else "."
    return f"{where}: `{dotted(place)}` {text}{end}" if place else f"{where}: {text}{end}"


def _place(loc: tuple[str | int, ...], value: Any) -> Place:
    """Where in the file a mistake is: without the names of alternatives that pydantic puts in."""
    place: list[str | int] = []
    for number, part in enumerate(loc):
        last = number == len(loc) - 1
        if isinstance(value, Mapping) and part in value:
            place.append(part)
            value = value[part]
        elif isinstance(value, list) and isinstance(part, int) and part < len(value):
            place.append(part)
            value = value[part]
        elif last and isinstance(value, Mapping) and isinstance(part, str) and part.isidentifier():
            place.append(part)
    return tuple(place)


def _keys(place: Place) -> list[str]:
    """The keys that are known where an unknown one stands."""
    parts: dict[str | int, tuple[type[Part], ...]] = {
        "models": (ModelPart, ServerPart),
        "targets": (ModelPart, ServerPart),
        "prompts": (PromptFile,),
        "plots": (Plot,),
    }
    owners = parts.get(place[0], (Declaration,)) if len(place) > 1 else (Declaration,)
    return [name for owner in owners for name in owner.model_fields]
