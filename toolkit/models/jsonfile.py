"""A JSON file that holds one object, such as config.json or manifest.json."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from toolkit.errors import CheckpointError


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object. Raises CheckpointError if the file is absent or holds something else."""
    try:
        value = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise CheckpointError(
            f"{path.parent} has no {path.name}. Give the folder of a complete checkpoint."
        ) from None
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path} cannot be read: {error}. Fetch or copy it again.") from error
    if not isinstance(value, dict):
        raise CheckpointError(f"{path} must hold a JSON object, got {type(value).__name__}.")
    return value


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Write one object, indented, with characters as they are."""
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
