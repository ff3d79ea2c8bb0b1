"""What colours a token: four quantities, each on a scale from expected (0) to unexpected (1)."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import Any

from toolkit.errors import InvalidRequest

HUE = (217, 95, 2)
"""Orange: seen by the colour-blind, readable under black and under white text at 60 % opacity."""
OPACITY = 0.6


@dataclasses.dataclass(frozen=True, kw_only=True)
class Scale:
    """How one column becomes a level and a number to read."""

    name: str
    column: str
    level: Callable[[float], float]
    """Value of the column -> 0 to 1."""
    number: Callable[[float], str]
    """Value of the column -> what stands beside the colour."""
    steps: tuple[float, ...]
    """Values of the column that the legend shows."""
    unit: str


def clipped(value: float) -> float:
    """Between 0 and 1."""
    return min(1.0, max(0.0, value))


SCALES = {
    scale.name: scale
    for scale in (
        Scale(
            name="probability",
            column="logprob",
            level=lambda v: 1 - math.exp(min(v, 0.0)),
            number=lambda v: short(math.exp(v)),
            steps=tuple(math.log(p) for p in (1, 0.75, 0.5, 0.25, 0.01)),
            unit="probability",
        ),
        Scale(
            name="surprisal",
            column="logprob",
            level=lambda v: clipped(-v / math.log(2) / 12),
            number=lambda v: f"{abs(v) / math.log(2):.1f}",
            steps=tuple(-math.log(2) * bits for bits in (0, 3, 6, 9, 12)),
            unit="surprisal in bits",
        ),
        Scale(
            name="rank",
            column="rank",
            level=lambda v: clipped(math.log10(v) / 3),
            number=lambda v: f"{v:.0f}",
            steps=(1, 3, 10, 100, 1000),
            unit="rank",
        ),
        Scale(
            name="entropy",
            column="entropy",
            level=lambda v: clipped(v / math.log(2) / 8),
            number=lambda v: f"{v / math.log(2):.1f}",
            steps=tuple(math.log(2) * bits for bits in (0, 2, 4, 6, 8)),
            unit="entropy in bits",
        ),
    )
}


def scale_of(color: str) -> Scale:
    """The scale of a name. Raises InvalidRequest for any other."""
    if color not in SCALES:
        known = ", ".join(SCALES)
        raise InvalidRequest(f"`color` must be one of {known}, got {color!r}.", param="color")
    return SCALES[color]


def value_of(scale: Scale, row: Mapping[str, Any]) -> float | None:
    """The quantity of a row of a token frame; None where it is missing."""
    return present(row.get(scale.column))


def present(value: Any) -> float | None:
    """A cell as a float; None for NA and NaN."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return None if math.isnan(number) else number


def short(probability: float) -> str:
    """A probability in few characters: .87, .997, .013, 4e-5."""
    if probability >= 0.9995:
        return "1"
    if probability >= 0.001:
        digits = f"{probability:.3f}" if probability >= 0.995 else f"{probability:.2g}"
        return digits.removeprefix("0")
    return f"{probability:.0e}".replace("e-0", "e-") if probability > 0 else "0"
