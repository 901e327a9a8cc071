"""Checks of values that people give from Python: each refusal is one line with the value's name. Free of torch."""

from __future__ import annotations

import types
from collections.abc import Sequence
from dataclasses import dataclass, is_dataclass
from functools import cache
from math import inf, isfinite, isinf, nan
from numbers import Integral, Real
from typing import TYPE_CHECKING, Annotated, Any, Literal, Union, cast, get_args, get_origin, get_type_hints

if TYPE_CHECKING:
    pass


def whole(name: str, value: object, least: int = 1, most: int | None = None) -> int:
    """The whole number.

    Raises:
        ValueError: something else (True too), less than `least` or more than `most`.
    """
    found = None if isinstance(value, bool) or not isinstance(value, Integral) else int(value)
    if found is None or found < least or (most is not None and found > most):
        limits = f"of at least {least}" if most is None else f"in {least} .. {most}"
        raise ValueError(f"{name} must be a whole number {limits}, got {shown(value)}")
    return found


def number(name: str, value: object, least: float = -float("inf")) -> float:
    """The finite number.

    Raises:
        ValueError: something else, not finite, or less than `least`.
    """
    found = nan if isinstance(value, bool) or not isinstance(value, Real) else float(value)
    if not isfinite(found) or found < least:
        limits = "" if isinf(least) else f" of at least {least:g}"
        raise ValueError(f"{name} must be a finite number{limits}, got {shown(value)}")
    return found


def kind(name: str, value: object, wanted: type, hint: str = "") -> None:
    """Refuse a value of another type.

    Raises:
        ValueError: it is.
    """
    if not isinstance(value, wanted):
        raise ValueError(f"{name} must be a {wanted.__name__}{hint}, got {shown(value)}")


def one_of(name: str, value: object, words: tuple[str, ...]) -> None:
    """Refuse what is none of the words.

    Raises:
        ValueError: it is not.
    """
    if value not in words:
        raise ValueError(f"{name} must be one of {', '.join(words)}, got {shown(value)}")


def flag(name: str, value: object) -> bool:
    """True or false.

    Raises:
        ValueError: something else.
    """
    if not isinstance(value, bool) and type(value).__name__ not in (
        "bool",
        "bool_",
    ):  # numpy's, under both of its names
        raise ValueError(f"{name} must be True or False, got {shown(value)}")
    return bool(value)


def shown(value: object) -> str:
    """How a value appears in a refusal: itself where that is short, else its type."""
    return (
        repr(value)[:60] if isinstance(value, str | int | float | bool | None) else f"{type(value).__name__}"
    )


@dataclass(frozen=True)
class Bounds:
    """Bounds of a number, declared at the field of a dataclass: `steps: Annotated[int, Bounds(1)] = 20`.

    Args:
        least, most: the smallest and the largest value.
        above, below: `least`, or `most`, itself is out of bounds.
    """

    least: int | float = -inf
    most: int | float = inf
    above: bool = False
    below: bool = False

    def hold(self, value: int | float) -> bool:
        """Whether the bounds hold; NaN is out of all of them."""
        inside = self.least <= value <= self.most
        return inside and not (self.above and value == self.least) and not (self.below and value == self.most)

    def words(self) -> str:
        """The bounds for people, such as " above 0 and at most 1"."""
        low = "" if isinf(self.least) else f" {'above' if self.above else 'of at least'} {self.least:g}"
        high = "" if isinf(self.most) else f" {'below' if self.below else 'at most'} {self.most:g}"
        return low + (" and" if low and high else "") + high


def within(name: str, value: object, bounds: Bounds) -> float:
    """The number within bounds.

    Raises:
        ValueError: something else, or out of bounds.
    """
    found, wanted = _fitted_number(value, float, bounds)
    if wanted:
        raise ValueError(f"{name} must be {wanted}, got {shown(value)}")
    return found


def check_fields(settings: Any) -> None:
    """Refuse values of a dataclass that are of another type than their fields, or out of the bounds declared there.

    A list becomes the tuple that its field wants, and a whole number a float. Names stand in backquotes, so that the command line can
    say flags for them.

    Raises:
        ValueError: the field, what is needed and what was given.
    """
    for name, hint in _hints(type(settings)).items():
        value = getattr(settings, name)
        fitting, wanted = _fitted(value, hint)
        if wanted:
            raise ValueError(f"`{name}` must be {wanted}, got {shown(value)}")
        if fitting is not value:
            object.__setattr__(settings, name, fitting)


@cache
def _hints(kind_: type) -> dict[str, Any]:
    return get_type_hints(kind_, include_extras=True)


def _fitted(value: Any, hint: Any, bounds: Bounds | None = None) -> tuple[Any, str]:
    """The value as its field wants it, and what is wanted, or "" if it fits."""
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
    if hint in (int, float):
        return _fitted_number(value, hint, bounds or Bounds())
    known = not isinstance(hint, type) or is_dataclass(hint) or isinstance(value, hint)
    return value, "" if known else "text" if hint is str else f"a {hint.__name__}"


def _fitted_number(value: Any, hint: type, bounds: Bounds) -> tuple[Any, str]:
    plain = not isinstance(value, bool)
    if hint is int:
        good = plain and isinstance(value, Integral) and bounds.hold(int(value))
        return value, "" if good else f"a whole number{bounds.words()}"
    if plain and isinstance(value, Real) and bounds.hold(float(value)):
        return float(value), ""
    return value, f"a {'finite ' if isinf(bounds.most) and bounds.below else ''}number{bounds.words()}"


def _fitted_tuple(value: Any, parts: tuple[Any, ...]) -> tuple[Any, str]:
    wanted = parts[:1] * len(value) if isinstance(value, Sequence) and parts[1:] == (...,) else parts
    if not isinstance(value, Sequence) or isinstance(value, str) or len(value) != len(wanted):
        return value, f"{len(parts)} values" if parts[1:] != (...,) else "a list"
    fitting = [_fitted(one, hint) for one, hint in zip(cast(Sequence[Any], value), wanted, strict=True)]
    return tuple(one for one, _ in fitting), next((f"each {words}" for _, words in fitting if words), "")
