"""What config.json says about the rotary embedding, in its old and its new spelling.

Old: `rope_theta` and, for longer contexts, `rope_scaling`; new: both in `rope_parameters`. Every
way of scaling becomes a ratio a frequency. Formulas: transformers' modeling_rope_utils; sources:
linear (Chen et al. 2023, arXiv 2306.15595), YaRN (Peng et al. 2023, arXiv 2309.00071), LongRoPE
(Ding et al. 2024, arXiv 2402.13753), Llama 3 (arXiv 2407.21783).
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from toolkit.errors import CheckpointError
from toolkit.models.config import Rope
from toolkit.models.families.attributes import Attributes

SCALINGS = ("default", "linear", "llama3", "yarn", "longrope")
"""Ways that depend on nothing but the frequency; LongRoPE does not if it has the same factors for
short and for long prompts, as GGUF files say Llama 3's. "dynamic" depends on the length of the
prompt, so that a cached key would turn by another angle than the same key computed anew."""


def read_rope(
    a: Attributes,
    *,
    head_width: int,
    context: int,
    theta: float = 10_000.0,
    theta_name: str = "rope_theta",
    partial: float | None = None,
    partial_name: str = "partial_rotary_factor",
    sources: Sequence[Attributes] | None = None,
    handled: tuple[str, ...] = SCALINGS,
    original: int | None = None,
    cut: bool = False,
) -> Rope:
    """The rotary embedding of one model.

    `context`: what the configuration promises; `original`: what the model was first trained with;
    `cut`: whether the family ends the context there.
    `theta` and `partial` hold where the configuration is silent; without `partial` the family turns
    whole heads only. `sources`: the objects that say more, `rope_parameters` and `rope_scaling` if
    left out. Raises UnsupportedModel for a way of scaling that is not in `handled`, CheckpointError
    if two spellings contradict each other.
    """
    if sources is None:
        sources = a.mapping("rope_parameters"), a.mapping("rope_scaling")
    base = _agreed(a, theta_name, [(a, theta_name), *((s, "rope_theta") for s in sources)], theta)
    width = _width(a, sources, head_width, partial, partial_name)
    rope = Rope(theta=base, width=None if width == head_width else width)
    ways = [(source, way) for source in sources if (way := _way(source, handled)) != "default"]
    if len(ways) > 1:
        raise CheckpointError(
            f"{a.source} scales the rotary embedding twice, in `rope_parameters` and in "
            "`rope_scaling`. Keep one."
        )
    for source, way in ways:
        trained = source.integer("original_max_position_embeddings", original or context)
        ratios, magnitude = WAYS[way](source, Turning(base, width, context, trained, cut))
        rope = dataclasses.replace(rope, ratios=ratios, magnitude=magnitude)
    for source in sources:
        source.done()
    return rope


def _agreed(
    a: Attributes, name: str, places: Iterable[tuple[Attributes, str]], default: float
) -> float:
    """The one value that several places give. Raises CheckpointError if they differ."""
    found = {place.number(spelled) for place, spelled in places if place.has(spelled)}
    if len(found) > 1:
        raise CheckpointError(
            f"`{name}` has several values in {a.source}, which contradict each other: "
            f"{sorted(found)}. Keep the one that the model was trained with."
        )
    return found.pop() if found else default


def _width(
    a: Attributes,
    sources: Iterable[Attributes],
    head_width: int,
    partial: float | None,
    name: str,
) -> int:
    """How many features of a head turn."""
    if partial is None:
        for source in sources:
            source.expect("partial_rotary_factor", 1.0)
        return head_width
    places = [(a, name), *((source, "partial_rotary_factor") for source in sources)]
    share = _agreed(a, name, places, partial)
    width = int(head_width * share)
    if width % 2 or not 0 < width <= head_width:
        raise CheckpointError(
            f"`{name}` {share} in {a.source} makes {width} of {head_width} features turn, which "
            "must be an even number. Fetch the model's own file again."
        )
    return width


def _way(source: Attributes, handled: tuple[str, ...]) -> str:
    """How the frequencies are scaled, in the spelling of today."""
    found = [source.choice(name, handled) for name in ("rope_type", "type")]
    return {"su": "longrope"}.get(way := found[0] or found[1] or "default", way)


class Turning(NamedTuple):
    """What the ways of scaling start from."""

    base: float
    width: int
    """Features of a head that turn."""
    context: int
    trained: int
    """Context of the first training."""
    cut: bool
    """Whether the context ends there."""

    def frequencies(self) -> np.ndarray:
        """One for each pair of features, unscaled, in radians a token."""
        return self.base ** (-np.arange(0, self.width, 2) / self.width)


Scale = tuple[tuple[float, ...], float]
"""A ratio a frequency, and the magnitude of cosine and sine."""


def _linear(a: Attributes, turning: Turning) -> Scale:
    return (1 / a.number("factor"),) * (turning.width // 2), 1.0


def _llama3(a: Attributes, turning: Turning) -> Scale:
    """Long waves are slowed down by the factor, short ones not, and those between in between."""
    factor, low, high = (a.number(n) for n in ("factor", "low_freq_factor", "high_freq_factor"))
    turns = turning.trained * turning.frequencies() / (2 * math.pi)
    kept = np.clip((turns - low) / (high - low), 0, 1)
    return tuple((kept + (1 - kept) / factor).tolist()), 1.0


def _yarn(a: Attributes, turning: Turning) -> Scale:
    """A ramp between features that turn often, which stay, and those that do not, which slow."""
    factor, width = a.number("factor"), turning.width

    def feature(turns: float) -> float:
        """The feature that turns so often over the length of training."""
        waves = math.log(turning.trained / (turns * 2 * math.pi))
        return width * waves / (2 * math.log(turning.base))

    low, high = feature(a.number("beta_fast", 32.0)), feature(a.number("beta_slow", 1.0))
    if a.flag("truncate", True):
        low, high = math.floor(low), math.ceil(high)
    low, high = max(low, 0), min(high, width - 1)
    slowed = np.clip((np.arange(width // 2) - low) / (high - low or 0.001), 0, 1)
    return tuple((1 - slowed + slowed / factor).tolist()), _yarn_magnitude(a, factor)


def _yarn_magnitude(a: Attributes, factor: float) -> float:
    def grown(by: float) -> float:
        return 1.0 if factor <= 1 else 0.1 * by * math.log(factor) + 1.0

    names = ("attention_factor", "mscale", "mscale_all_dim")
    given, one, every = (a.number(name) if a.has(name) else None for name in names)
    if given is not None:
        return given
    return grown(one) / grown(every) if one and every else grown(1.0)


def _longrope(a: Attributes, turning: Turning) -> Scale:
    """The factors for prompts within the length of the first training. Those for longer ones must
    be the same, unless the family ends its context there."""
    short, long = (a.numbers(name, turning.width // 2) for name in ("short_factor", "long_factor"))
    if not turning.cut:
        a.refuse_unless("long_factor", long, (short,))
    factor = a.number("factor", turning.context / turning.trained)
    grown = 1.0 if factor <= 1 else math.sqrt(1 + math.log(factor) / math.log(turning.trained))
    return tuple(1 / x for x in short), a.number("attention_factor", grown)


WAYS: Mapping[str, Callable[[Attributes, Turning], Scale]] = {
    "linear": _linear,
    "llama3": _llama3,
    "yarn": _yarn,
    "longrope": _longrope,
}
