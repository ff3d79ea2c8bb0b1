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
        self.source = source
        self._left = dict(raw)
        self._family = family
        self._within = within

    def has(self, name: str) -> bool:
        """Whether `name` is given and not taken yet; null counts as absent."""
        return self._left.get(name) is not None

    def take(self, name: str, default: Any = _MISSING) -> Any:
        """The value of `name`; null counts as absent. Raises CheckpointError without a default."""
        value = self._left.pop(name, None)
        if value is not None:
            return value
        if default is _MISSING:
            raise CheckpointError(
                f"{self.source} has no `{self._within}{name}`, which every model of the "
                f"{self._family} family needs. Fetch the model's own file again."
            )
        return default

    def integer(self, name: str, default: Any = _MISSING) -> int:
        """A whole number of at least 1."""
        value = self.take(name, default)
        if type(value) is not int or value < 1:
            raise CheckpointError(
                f"`{self._within}{name}` in {self.source} must be a whole number of at least 1, "
                f"got {value!r}."
            )
        return value

    def number(self, name: str, default: Any = _MISSING) -> float:
        """A positive, finite number."""
        value = self.take(name, default)
        if type(value) not in (int, float) or not 0 < value < float("inf"):
            raise CheckpointError(
                f"`{self._within}{name}` in {self.source} must be a positive number, got {value!r}."
            )
        return float(value)

    def nullable_integer(self, name: str, default: int | None) -> int | None:
        """A whole number of at least 1, or None if it says null; `default` if it says nothing."""
        if name in self._left and self._left[name] is None:
            return self._left.pop(name)
        return self.integer(name) if self.has(name) else default

    def nullable_number(self, name: str, default: float | None) -> float | None:
        """A positive number, or None if it says null; `default` if it says nothing."""
        if name in self._left and self._left[name] is None:
            return self._left.pop(name)
        return self.number(name) if self.has(name) else default

    def numbers(self, name: str, length: int) -> list[float]:
        """A list of `length` positive numbers."""
        value = self.take(name)
        good = isinstance(value, list) and all(type(x) in (int, float) and x > 0 for x in value)
        if not good or len(value) != length:
            raise CheckpointError(
                f"`{self._within}{name}` in {self.source} must be a list of {length} positive "
                f"numbers, got {value!r:.80}."
            )
        return [float(x) for x in value]

    def listed(self, name: str, length: int, handled: Iterable[Any]) -> list[Any] | None:
        """A list of `length` values, each one of `handled`; None if absent."""
        value = self.take(name, None)
        if value is None:
            return None
        if not isinstance(value, list) or len(value) != length:
            raise CheckpointError(
                f"`{self._within}{name}` in {self.source} must be a list with an entry for each "
                f"of {length} layers, got {value!r:.80}."
            )
        for one in value:
            self.refuse_unless(name, one, tuple(handled))
        return value

    def choice(self, name: str, handled: tuple[Any, ...]) -> Any:
        """One of `handled`, or None if absent. Raises UnsupportedModel for another value."""
        value = self.take(name, None)
        if value is not None:
            self.refuse_unless(name, value, handled)
        return value

    def flag(self, name: str, default: bool) -> bool:
        """True or false."""
        value = self.take(name, default)
        if type(value) is not bool:
            raise CheckpointError(
                f"`{self._within}{name}` in {self.source} must be true or false, got {value!r}."
            )
        return value

    def expect(self, name: str, *handled: Any) -> None:
        """Refuse any value of `name` but those handled. Absent is handled."""
        self.refuse_unless(name, self.take(name, handled[0]), handled)

    def refuse_unless(self, name: str, value: Any, handled: tuple[Any, ...]) -> None:
        """Raise UnsupportedModel for a value of `name` that is not among those handled."""
        if value not in handled:
            raise UnsupportedModel(
                f"`{self._within}{name}` = {value!r} in {self.source} is not handled by the "
                f"{self._family} family (handled: {', '.join(map(repr, handled))}), and ignoring "
                "it would change the model. Choose a model without it."
            )

    def mapping(self, name: str) -> Attributes:
        """A nested object, empty if absent."""
        value = self.take(name, {})
        if not isinstance(value, Mapping):
            raise CheckpointError(
                f"`{self._within}{name}` in {self.source} must be an object, got {value!r}."
            )
        return Attributes(
            value, family=self._family, source=self.source, within=f"{self._within}{name}."
        )

    def done(self, harmless: Iterable[str] = ()) -> None:
        """Refuse what is left, except nulls and attributes with no effect on logits."""
        given = {name for name, value in self._left.items() if value is not None}
        unknown = sorted(given - set(harmless))
        if unknown:
            names = ", ".join(f"`{self._within}{name}` = {self._left[name]!r}" for name in unknown)
            raise UnsupportedModel(
                f"{self.source} sets {names}, which the {self._family} family does not handle, "
                "and ignoring it could change the model. If it has no effect on logits, remove it "
                f"from {self.source}."
            )
