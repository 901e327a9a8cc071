"""Checks of settings given in Python: one ValueError that names the argument, what was got and what is needed."""

import math
from numbers import Integral, Real
from typing import Any


def whole(owner: str, name: str, value: Any, least: int) -> None:
    """A whole number of at least `least`.

    Raises:
        ValueError: it is another; True and False are none.
    """
    if isinstance(value, bool) or not isinstance(value, Integral) or value < least:
        raise ValueError(f"{owner}: {name} must be a whole number of at least {least}, got {value!r}")


def real(
    owner: str, name: str, value: Any, low: float, high: float, *, above: bool = False, below: bool = False
) -> None:
    """A number in low .. high.

    Args:
        above: low itself is none.
        below: high itself is none.
    Raises:
        ValueError: it is another, NaN, or no number.
    """
    number = float(value) if not isinstance(value, bool) and isinstance(value, Real) else math.nan
    if not low <= number <= high or (above and number == low) or (below and number == high):
        start = f"above {low:g}" if above else f"at least {low:g}"
        end = "" if high == math.inf and not below else f" and {'below' if below else 'at most'} {high:g}"
        raise ValueError(
            f"{owner}: {name} must be a number {start}{end.replace('below inf', 'finite')}, got {value!r}"
        )


def truth(owner: str, name: str, value: Any, *, unknown: bool = False) -> None:
    """True or False, or None where `unknown` allows it.

    Raises:
        ValueError: it is something else.
    """
    if not isinstance(value, bool) and not (unknown and value is None):
        raise ValueError(
            f"{owner}: {name} must be True{', ' if unknown else ' or '}False{' or None' if unknown else ''}, got {value!r}"
        )
