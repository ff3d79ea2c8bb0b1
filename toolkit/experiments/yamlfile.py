"""YAML as declarations need it: no key twice, the line of every value, numbers as people write
them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from toolkit.errors import RunError

Place = tuple[str | int, ...]
"""Keys and positions from the root to a value: `("grid", "temperature", 0)`."""


class _Loader(yaml.SafeLoader):
    """YAML 1.1's words for true and false stay as they are: the check that meets one where text is
    due says why. `1e-3` is a number, as in YAML 1.2, and `010` is ten."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, form) for tag, form in found if tag.rpartition(":")[2] not in ("int", "float")]
    for first, found in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)(e[-+]?[0-9]+)?$|[-+]?\.inf$|\.nan$", re.I),
    list("-+.0123456789"),
)
# Resolvers are asked in order: the whole number comes first.
for _first in "-+0123456789":
    _Loader.yaml_implicit_resolvers[_first].insert(
        0, ("tag:yaml.org,2002:int", re.compile(r"[-+]?[0-9][0-9_]*$"))
    )


def _whole(loader: _Loader, node: yaml.ScalarNode) -> int:
    return int(loader.construct_scalar(node).replace("_", ""))


_Loader.add_constructor("tag:yaml.org,2002:int", _whole)


class Base60(str):
    """Text like 12:30, which YAML 1.1 reads as a number. It is told apart from quoted text."""


_Loader.add_implicit_resolver(
    "!base60",
    re.compile(r"[-+]?[0-9][0-9_]*(:[0-5]?[0-9])+(\.[0-9_]*)?$"),
    list("-+0123456789"),
)


def _base60(loader: _Loader, node: yaml.ScalarNode) -> Base60:
    return Base60(loader.construct_scalar(node))


_Loader.add_constructor("!base60", _base60)


class _Dumper(yaml.SafeDumper):
    """Quotes what either reading of YAML would take for something else than text."""


_Dumper.yaml_implicit_resolvers = {
    first: [
        *_Loader.yaml_implicit_resolvers.get(first, ()),
        *yaml.SafeDumper.yaml_implicit_resolvers.get(first, ()),
    ]
    for first in {*_Loader.yaml_implicit_resolvers, *yaml.SafeDumper.yaml_implicit_resolvers}
}


def to_yaml(value: Any) -> str:
    """Plain data as YAML that `read_yaml` reads as the same."""
    return yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True)


def read_yaml(path: Path) -> tuple[Any, dict[Place, int]]:
    """The value of a file, and the line (from 1) of each value in it.

    Raises RunError for what is no YAML and for a key that stands twice.
    """
    try:
        loader = _Loader(path.read_text(encoding="utf-8-sig"))
        node = loader.get_single_node()
        lines: dict[Place, int] = {}
        if node is None:
            return None, lines
        _walk(node, (), lines, path)
        return loader.construct_document(node), lines
    except OSError as error:
        raise RunError(f"{path} cannot be read: {error.strerror}.") from None
    except RecursionError:
        raise RunError(f"{path} holds an alias of itself. Write its value out.") from None
    except (UnicodeDecodeError, yaml.YAMLError) as error:
        raise RunError(f"{path} is not valid YAML: {error}") from None


def _walk(node: yaml.Node, place: Place, lines: dict[Place, int], path: Path) -> None:
    """Note the line of a node and of all below it."""
    lines.setdefault(place, node.start_mark.line + 1)
    if isinstance(node, yaml.SequenceNode):
        for index, child in enumerate(node.value):
            _walk(child, (*place, index), lines, path)
    elif isinstance(node, yaml.MappingNode):
        for key, child in node.value:
            below = (*place, str(key.value))
            if below in lines:
                line = key.start_mark.line + 1
                raise RunError(
                    f"{path}:{line}: `{dotted(below)}` stands twice, first in line {lines[below]}. "
                    "Keep one of them."
                )
            lines[below] = key.start_mark.line + 1
            _walk(child, below, lines, path)


def dotted(place: Place) -> str:
    """A place as messages show it: `grid.temperature[0]`."""
    text = ""
    for part in place:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text
