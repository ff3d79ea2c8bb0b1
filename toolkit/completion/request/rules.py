"""How one value of a request is read, and what it may be.

A rule has two halves because the contract checks all types, then the model, then all ranges: `read`
gives the normalised value or refuses the type, `check` refuses the range.
"""

from __future__ import annotations

import dataclasses
import math
import numbers
import re
import reprlib
from collections.abc import Mapping
from typing import Any

from toolkit.completion.request.dialect import Dialect, Limits
from toolkit.errors import InvalidRequest

YAML_HINT = "YAML reads a bare yes, no, on, off, true, false or number as something else: quote it."
CANONICAL_ID = re.compile(r"0|[1-9][0-9]{0,18}", re.ASCII)


class _Short(reprlib.Repr):
    """`repr` in at most some 60 characters, also for integers that Python refuses to print."""

    def __init__(self) -> None:
        super().__init__()
        self.maxlevel, self.maxlist, self.maxtuple, self.maxdict = 2, 4, 4, 4
        self.maxstring = self.maxother = 60

    def repr_int(self, x: int, level: int) -> str:
        """Digits up to 200 bits, the size beyond."""
        return repr(x) if x.bit_length() <= 200 else f"an integer of {x.bit_length()} bits"


show = _Short().repr


def quote(name: object) -> str:
    """A field's name in backticks, shortened."""
    text = name if isinstance(name, str) else show(name)
    return f"`{text if len(text) <= 60 else text[:57] + '...'}`"


def printable(text: str) -> str:
    """The text with lone surrogates escaped, so that it can be sent as UTF-8."""
    return text.encode(errors="backslashreplace").decode()


def refuse(name: str, message: str) -> InvalidRequest:
    """The error that blames parameter `name`."""
    return InvalidRequest(printable(message), param=printable(name[:60]))


def wrong(
    name: str, rule: str, value: object, hint: str = "", *, where: str = ""
) -> InvalidRequest:
    """The error "`name` must be RULE, got VALUE WHERE. HINT"."""
    got = f"got {show(value)}{' ' + where if where else ''}"
    return refuse(name, f"{quote(name)} must be {rule}, {got}.{' ' + hint if hint else ''}")


def as_integer(value: object) -> int | None:
    """The integer that a number stands for (2.0 is 2), or None. Booleans are not numbers."""
    if isinstance(value, bool):
        return None
    if isinstance(value, numbers.Integral):
        return int(value)
    number = as_number(value)
    return int(number) if number is not None and number.is_integer() else None


def as_number(value: object) -> float | None:
    """The finite float that a number stands for, or None. Booleans are not numbers."""
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


def read_text(
    value: object, name: str, rule: str = "a string", *, where: str = "", hint: str = ""
) -> str:
    """A plain `str` without lone surrogates (they are no text: UTF-8 has no bytes for them)."""
    if not isinstance(value, str):
        raise wrong(name, rule, value, hint, where=where)
    try:
        value.encode()
    except UnicodeEncodeError as error:
        code = f"U+{ord(value[error.start]):04X} at character {error.start}"
        inside = f" ({where.removeprefix('at ')})" if where else ""
        message = (
            f"{quote(name)}{inside} holds a lone surrogate, {code}, which is not text. Remove it."
        )
        raise refuse(name, message) from None
    return str.__str__(value)


def read_texts(value: object, name: str, rule: str) -> tuple[str, ...]:
    """A list of strings; `rule` says in messages what was expected."""
    if not isinstance(value, (list, tuple)):
        raise wrong(name, rule, value)
    return tuple(
        read_text(
            item, name, rule, where=f"at position {i}", hint=YAML_HINT if _scalar(item) else ""
        )
        for i, item in enumerate(value)
    )


def _scalar(value: object) -> bool:
    return value is None or isinstance(value, numbers.Real)


@dataclasses.dataclass(frozen=True)
class Rule:
    """Type and range of one parameter. The base takes anything."""

    def read(self, value: Any, name: str, dialect: Dialect) -> Any:
        """The normalised value. Raises InvalidRequest for a wrong type."""
        del name, dialect
        return value

    def check(self, value: Any, name: str, limits: Limits) -> None:
        """Raises InvalidRequest for a value out of range."""


@dataclasses.dataclass(frozen=True)
class Boolean(Rule):
    """True or false; 0, 1 and strings are neither."""

    def read(self, value: Any, name: str, dialect: Dialect) -> bool:
        if not isinstance(value, bool):
            raise wrong(name, "true or false", value)
        return value


@dataclasses.dataclass(frozen=True)
class Integer(Rule):
    """A whole number from `low` to `high` (None = no upper bound)."""

    low: int
    high: int | None = None
    hint: str = ""

    def read(self, value: Any, name: str, dialect: Dialect) -> int:
        number = as_integer(value)
        if number is None:
            raise wrong(name, "an integer", value)
        return number

    def check(self, value: int, name: str, limits: Limits) -> None:
        if value < self.low or (self.high is not None and value > self.high):
            span = f"at least {self.low}" if self.high is None else f"in [{self.low}, {self.high}]"
            raise wrong(name, span, value, self.hint)


@dataclasses.dataclass(frozen=True)
class Number(Rule):
    """A finite number from `low` to `high`, both included."""

    low: float
    high: float
    hint: str = ""

    def read(self, value: Any, name: str, dialect: Dialect) -> float:
        number = as_number(value)
        if number is None:
            raise wrong(name, "a finite number", value)
        return number

    def check(self, value: float, name: str, limits: Limits) -> None:
        if not self.low <= value <= self.high:
            raise wrong(name, f"in [{self.low:g}, {self.high:g}]", value, self.hint)


@dataclasses.dataclass(frozen=True)
class Text(Rule):
    """Any string."""

    def read(self, value: Any, name: str, dialect: Dialect) -> str:
        return read_text(value, name)


@dataclasses.dataclass(frozen=True)
class OneOf(Rule):
    """One of a few words."""

    words: tuple[str, ...]

    def read(self, value: Any, name: str, dialect: Dialect) -> str:
        return read_text(value, name)

    def check(self, value: str, name: str, limits: Limits) -> None:
        if value not in self.words:
            raise wrong(name, " or ".join(map(repr, self.words)), value)


@dataclasses.dataclass(frozen=True)
class Stops(Rule):
    """One string or a list of them; none of them empty."""

    most: int

    def read(self, value: Any, name: str, dialect: Dialect) -> tuple[str, ...]:
        if isinstance(value, str):
            return (read_text(value, name),)
        return read_texts(value, name, "a string or a list of strings")

    def check(self, value: tuple[str, ...], name: str, limits: Limits) -> None:
        if len(value) > self.most:
            raise refuse(name, f"`{name}` takes at most {self.most} strings, got {len(value)}.")
        if "" in value:
            hint = "It would match everywhere; omit it."
            raise wrong(
                name, "free of empty strings", "", hint, where=f"at position {value.index('')}"
            )


@dataclasses.dataclass(frozen=True)
class Choices(Rule):
    """A non-empty list of non-empty strings; repeats count once."""

    def read(self, value: Any, name: str, dialect: Dialect) -> tuple[str, ...]:
        return tuple(dict.fromkeys(read_texts(value, name, "a list of strings")))

    def check(self, value: tuple[str, ...], name: str, limits: Limits) -> None:
        if not value or "" in value:
            got = "" if value else []
            raise wrong(
                name, "a non-empty list of non-empty strings", got, "Omit it to allow any text."
            )
        size, most = sum(len(choice.encode()) for choice in value), limits.max_choice_bytes
        if size > most:
            message = f"`{name}` holds {size} bytes of text, and the limit is {most}."
            raise refuse(name, f"{message} Give fewer or shorter strings.")


@dataclasses.dataclass(frozen=True)
class Ids(Rule):
    """A list of token ids; repeats count once. Whether the vocabulary has them is checked later."""

    most: int

    def read(self, value: Any, name: str, dialect: Dialect) -> tuple[int, ...]:
        rule = "a list of token ids (integers)"
        if not isinstance(value, (list, tuple)):
            raise wrong(name, rule, value)
        ids = [as_integer(item) for item in value]
        if None in ids:
            raise wrong(name, rule, value[ids.index(None)], where=f"at position {ids.index(None)}")
        return tuple(dict.fromkeys(i for i in ids if i is not None))

    def check(self, value: tuple[int, ...], name: str, limits: Limits) -> None:
        if len(value) > self.most:
            raise refuse(name, f"`{name}` takes at most {self.most} ids, got {len(value)}.")


@dataclasses.dataclass(frozen=True)
class Alternatives(Rule):
    """How many alternatives are reported a token: 0 to the server's cap, or -1 for all.

    `flag`: the strict route takes only true and false, elsewhere true means 1 and false means off.
    """

    flag: bool = False

    def read(self, value: Any, name: str, dialect: Dialect) -> int | None:
        if self.flag and isinstance(value, bool):
            return 1 if value else None
        if self.flag and dialect is Dialect.STRICT:
            hint = f"{Dialect.LEGACY.place} takes the number of alternatives."
            raise wrong(name, "true or false", value, hint)
        number = as_integer(value)
        if number is None:
            raise wrong(name, "a boolean or an integer" if self.flag else "an integer", value)
        return number

    def check(self, value: int | None, name: str, limits: Limits) -> None:
        if value is None or -1 <= value <= limits.max_logprobs:
            return
        if value < 0:
            raise wrong(name, "at least 0, or -1 for all", value)
        raise wrong(name, f"at most {limits.max_logprobs}, the limit set here", value)


@dataclasses.dataclass(frozen=True)
class Bias(Rule):
    """Token ids, as the decimals that JSON keys are, to numbers in [-100, 100]."""

    def read(self, value: Any, name: str, dialect: Dialect) -> dict[int, float]:
        if not isinstance(value, Mapping):
            raise wrong(name, "an object from token ids to numbers", value)
        read: dict[int, float] = {}
        for key, amount in value.items():
            token = self._id(key, name, dialect)
            if token in read:
                raise refuse(name, f"`{name}` names id {token} twice. Name each id once.")
            read[token] = self._amount(key, amount, name)
        return read

    def _id(self, key: object, name: str, dialect: Dialect) -> int:
        if isinstance(key, str) and CANONICAL_ID.fullmatch(key):
            return int(key)
        number = as_integer(key) if dialect is Dialect.PYTHON else None
        if number is None:
            hint = 'Write ids as plain decimals, such as "42".'
            raise wrong(name, "an object whose keys are token ids", key, hint, where="as a key")
        return number

    def _amount(self, key: object, amount: object, name: str) -> float:
        number = as_number(amount)
        if number is None:
            raise wrong(name, "an object of finite numbers", amount, where=f"for id {show(key)}")
        return number

    def check(self, value: Mapping[int, float], name: str, limits: Limits) -> None:
        for token, amount in value.items():
            if not -100 <= amount <= 100:
                raise wrong(name, "in [-100, 100]", amount, where=f"for id {show(token)}")
