"""Check values that the user passes; each error is one line that names the value. Imports no torch."""

from __future__ import annotations

import types
from collections.abc import Sequence
from dataclasses import dataclass, is_dataclass
from functools import cache
from math import inf, isinf, nan
from numbers import Integral, Real
from typing import Annotated, Literal, Union, cast, get_args, get_origin, get_type_hints


def whole(name: str, value: object, least: int = 1, most: int | None = None) -> int:
    """Convert to int.

    Raises:
        ValueError: not a whole number (nor is True), less than `least` or more than `most`.
    """
    result = None if isinstance(value, bool) or not isinstance(value, Integral) else int(value)
    if result is None or result < least or (most is not None and result > most):
        limits = f"of at least {least}" if most is None else f"in {least} .. {most}"
        raise ValueError(f"{name} must be a whole number {limits}, got {shown(value)}")
    return result


def number(name: str, value: object, least: float = -inf) -> float:
    """Convert to a finite float.

    Raises:
        ValueError: not a number, not finite, or less than `least`.
    """
    return within(name, value, Bounds(least, above=isinf(least), below=True))


def kind(name: str, value: object, wanted: type, hint: str = "") -> None:
    """Refuse a value of another type.

    Args:
        hint: added to the name of the type in the message.
    Raises:
        ValueError: the value is not of type `wanted`.
    """
    if not isinstance(value, wanted):
        raise ValueError(f"{name} must be a {wanted.__name__}{hint}, got {shown(value)}")


def one_of(name: str, value: object, words: tuple[str, ...]) -> None:
    """Refuse a value that is none of the words.

    Raises:
        ValueError: the value is none of the words.
    """
    if value not in words:
        raise ValueError(f"{name} must be one of {', '.join(words)}, got {shown(value)}")


def flag(name: str, value: object) -> bool:
    """Convert to bool.

    Raises:
        ValueError: neither True nor False.
    """
    # numpy's bool has two names
    if not isinstance(value, bool) and type(value).__name__ not in ("bool", "bool_"):
        raise ValueError(f"{name} must be True or False, got {shown(value)}")
    return bool(value)


def shown(value: object) -> str:
    """A value as messages show it: its beginning if it is plain, else its type."""
    return (
        repr(value)[:60] if isinstance(value, str | int | float | bool | None) else f"{type(value).__name__}"
    )


@dataclass(frozen=True)
class Bounds:
    """Bounds of a number, declared at the field of a dataclass: `steps: Annotated[int, Bounds(1)] = 20`.

    Args:
        least, most: smallest and largest value.
        above: exclude `least` itself.
        below: exclude `most` itself.
    """

    least: int | float = -inf
    most: int | float = inf
    above: bool = False
    below: bool = False

    def hold(self, value: int | float) -> bool:
        """Whether a value lies within the bounds; NaN never does."""
        inside = self.least <= value <= self.most
        return inside and not (self.above and value == self.least) and not (self.below and value == self.most)

    def words(self) -> str:
        """The bounds in words, such as " above 0 and at most 1"."""
        low = "" if isinf(self.least) else f" {'above' if self.above else 'of at least'} {self.least:g}"
        high = "" if isinf(self.most) else f" {'below' if self.below else 'at most'} {self.most:g}"
        return low + (" and" if low and high else "") + high


def within(name: str, value: object, bounds: Bounds) -> float:
    """Convert to a float within bounds.

    Raises:
        ValueError: not a number, or out of bounds.
    """
    result, wanted = _fitted_number(value, float, bounds)
    if wanted or not isinstance(result, float):
        raise ValueError(f"{name} must be {wanted}, got {shown(value)}")
    return result


def check_fields(settings: object) -> None:
    """Check the values of a dataclass against the types and `Bounds` of its fields.

    Lists become tuples and whole numbers become floats where the field is of that type. Names of fields stand
    in backquotes in messages, which the command line replaces by flags.

    Raises:
        ValueError: a value of another type or out of bounds; the message names the field and both.
    """
    for name, hint in _hints(type(settings)).items():
        value = getattr(settings, name)
        fitting, wanted = _fitted(value, hint)
        if wanted:
            raise ValueError(f"`{name}` must be {wanted}, got {shown(value)}")
        if fitting is not value:
            object.__setattr__(settings, name, fitting)


@cache
def _hints(kind_: type) -> dict[str, object]:
    return get_type_hints(kind_, include_extras=True)


def _fitted(value: object, hint: object, bounds: Bounds | None = None) -> tuple[object, str]:
    """The value converted to its field's type, and "" if it fits, else what is needed, in words."""
    origin, parts = get_origin(hint), get_args(hint)
    if origin is Annotated:
        declared = next((mark for mark in parts[1:] if isinstance(mark, Bounds)), bounds)
        return _fitted(value, parts[0], declared)
    if origin in (Union, types.UnionType):
        tried = [_fitted(value, part, bounds) for part in parts]
        good = next((one for one in tried if not one[1]), None)
        return good or (value, " or ".join(wanted for _, wanted in tried))
    if hint is type(None):
        return value, "" if value is None else "None"
    if origin is Literal:
        known = any(type(value) is type(word) and value == word for word in parts)
        return value, "" if known else f"one of {', '.join(map(repr, parts))}"
    if origin is tuple:
        return _fitted_tuple(value, parts)
    if hint is bool:
        return value, "" if type(value).__name__ in ("bool", "bool_") else "True or False"
    if hint is int or hint is float:
        return _fitted_number(value, hint, bounds or Bounds())
    if not isinstance(hint, type) or is_dataclass(hint) or isinstance(value, hint):
        return value, ""
    return value, "text" if hint is str else f"a {hint.__name__}"


def _fitted_number(value: object, hint: type, bounds: Bounds) -> tuple[object, str]:
    plain = not isinstance(value, bool)
    if hint is int:
        good = plain and isinstance(value, Integral) and bounds.hold(int(value))
        return value, "" if good else f"a whole number{bounds.words()}"
    try:
        result = float(value) if plain and isinstance(value, Real) else nan
    except OverflowError:  # a whole number beyond the largest float
        result = nan
    if bounds.hold(result):
        return result, ""
    return value, f"a {'finite ' if isinf(bounds.most) and bounds.below else ''}number{bounds.words()}"


def _fitted_tuple(value: object, parts: tuple[object, ...]) -> tuple[object, str]:
    wanted = parts[:1] * len(value) if isinstance(value, Sequence) and parts[1:] == (...,) else parts
    if not isinstance(value, Sequence) or isinstance(value, str) or len(value) != len(wanted):
        return value, f"{len(parts)} values" if parts[1:] != (...,) else "a list"
    fitting = [_fitted(one, hint) for one, hint in zip(cast(Sequence[object], value), wanted, strict=True)]
    return tuple(one for one, _ in fitting), next((f"each {words}" for _, words in fitting if words), "")
