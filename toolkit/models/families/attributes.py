"""A model's configuration while it is read: typed, and nothing in it is passed over in silence."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from toolkit.errors import CheckpointError, UnsupportedModel

_MISSING = object()


class Attributes:
    """A configuration while it is read. What nobody asked for is refused at the end, by name."""

    def __init__(
        self,
        raw: Mapping[str, Any],
        *,
        family: str,
        source: str = "config.json",
        within: str = "",
    ):
        self._left = dict(raw)
        self._family = family
        self._source = source
        self._within = within

    def take(self, name: str, default: Any = _MISSING) -> Any:
        """The value of `name`; null counts as absent. Raises CheckpointError without a default."""
        value = self._left.pop(name, None)
        if value is not None:
            return value
        if default is _MISSING:
            raise CheckpointError(
                f"{self._source} has no `{self._within}{name}`, which every model of the "
                f"{self._family} family needs. Fetch the model's own file again."
            )
        return default

    def integer(self, name: str, default: Any = _MISSING) -> int:
        """A whole number of at least 1."""
        value = self.take(name, default)
        if type(value) is not int or value < 1:
            raise CheckpointError(
                f"`{self._within}{name}` in {self._source} must be a whole number of at least 1, "
                f"got {value!r}."
            )
        return value

    def number(self, name: str, default: Any = _MISSING) -> float:
        """A positive, finite number."""
        value = self.take(name, default)
        if type(value) not in (int, float) or not 0 < value < float("inf"):
            raise CheckpointError(
                f"`{self._within}{name}` in {self._source} must be a positive number, "
                f"got {value!r}."
            )
        return float(value)

    def flag(self, name: str, default: bool) -> bool:
        """True or false."""
        value = self.take(name, default)
        if type(value) is not bool:
            raise CheckpointError(
                f"`{self._within}{name}` in {self._source} must be true or false, got {value!r}."
            )
        return value

    def expect(self, name: str, *handled: Any) -> None:
        """Refuse any value of `name` but those handled. Absent is handled."""
        value = self.take(name, handled[0])
        if value not in handled:
            raise UnsupportedModel(
                f"`{self._within}{name}` = {value!r} in {self._source} is not handled by the "
                f"{self._family} family (handled: {', '.join(map(repr, handled))}), and ignoring "
                "it would change the model. Choose a model without it."
            )

    def mapping(self, name: str) -> Attributes:
        """A nested object, empty if absent."""
        value = self.take(name, {})
        if not isinstance(value, Mapping):
            raise CheckpointError(
                f"`{self._within}{name}` in {self._source} must be an object, got {value!r}."
            )
        return Attributes(value, family=self._family, source=self._source, within=f"{name}.")

    def rope_theta(self, default: float) -> float:
        """Base of the rotary frequencies, from `rope_theta` or from `rope_parameters.rope_theta`.

        Any scaling of the frequencies is refused. Raises CheckpointError if the two contradict.
        """
        found = self._thetas()
        for name in ("rope_parameters", "rope_scaling"):
            rope = self.mapping(name)
            rope.expect("rope_type", "default")
            rope.expect("type", "default")
            rope.expect("partial_rotary_factor", 1.0)
            found |= rope._thetas()
            rope.done()
        if len(found) > 1:
            raise CheckpointError(
                f"`rope_theta` and `rope_parameters` in {self._source} contradict each other: "
                f"{sorted(found)}. Keep the one that the model was trained with."
            )
        return found.pop() if found else default

    def _thetas(self) -> set[float]:
        """`rope_theta` as a set of one, or of none if it is absent."""
        return {self.number("rope_theta")} if self._left.get("rope_theta") is not None else set()

    def done(self, harmless: Iterable[str] = ()) -> None:
        """Refuse what is left, except nulls and attributes with no effect on logits."""
        given = {name for name, value in self._left.items() if value is not None}
        unknown = sorted(given - set(harmless))
        if unknown:
            names = ", ".join(f"`{self._within}{name}` = {self._left[name]!r}" for name in unknown)
            raise UnsupportedModel(
                f"{self._source} sets {names}, which the {self._family} family does not handle, "
                "and ignoring it could change the model. If it has no effect on logits, remove it "
                f"from {self._source}."
            )
