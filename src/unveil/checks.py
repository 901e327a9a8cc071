"""Checks of values that people give from Python: each refusal is one line with the value's name. Free of torch."""

from __future__ import annotations

from collections.abc import Mapping
from math import isfinite, isinf, nan
from numbers import Integral, Real
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from jaxtyping import Float


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
    if not isinstance(value, bool) and type(value).__name__ not in ("bool", "bool_"):  # numpy's, under both of its names
        raise ValueError(f"{name} must be True or False, got {shown(value)}")
    return bool(value)


def numbers(name: str, value: object, shape: tuple[int | None, ...], letters: str) -> Float[np.ndarray, ...]:
    """A float array of this shape, finite in float32.

    Args:
        shape: None where any length of at least 1 will do.
        letters: the shape for people, such as "(B, 20)".
    Raises:
        ValueError: no array of numbers, another shape, or a number that is not finite, or beyond float32.
    """
    import numpy as np

    if isinstance(value, Mapping):
        raise ValueError(f"{name} must be an array of shape {letters}, got a dict with {[str(key) for key in value][:6]}")
    try:
        found = value.detach().cpu().numpy() if hasattr(value, "detach") else np.asarray(value)  # pyright: ignore[reportAttributeAccessIssue]
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name} must be an array of shape {letters}, got {shown(value)}") from error
    if found.dtype.kind not in "fiub":
        raise ValueError(f"{name} must be numbers of shape {letters}, got {found.dtype}")
    fits = found.ndim == len(shape) and all(
        got == want if want is not None else got > 0 for got, want in zip(found.shape, shape, strict=True)
    )
    if not fits:
        one = found.ndim == len(shape) - 1 and found.shape == shape[1:]
        raise ValueError(f"{name} must have shape {letters}, got {found.shape}{'; of one alone give x[None]' if one else ''}")
    with np.errstate(over="ignore"):
        if not np.isfinite(found.astype(np.float32)).all():
            raise ValueError(f"{name} must be finite numbers")
    return found


def axes_of(value: object) -> int:
    """How many axes an array, a tensor or nested lists have; -1 where that has no answer, which `numbers` says better."""
    import numpy as np

    found = getattr(value, "ndim", None)
    try:
        return found if isinstance(found, int) else np.ndim(value)  # pyright: ignore[reportArgumentType]
    except (TypeError, ValueError):
        return -1


def shown(value: object) -> str:
    """How a value appears in a refusal: itself where that is short, else its type."""
    return repr(value)[:60] if isinstance(value, str | int | float | bool | None) else f"{type(value).__name__}"
