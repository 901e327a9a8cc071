"""Values that people give: what fits is taken as its field wants it, what does not is refused in a line that
says what is needed."""

import math
import re
from dataclasses import dataclass, field
from typing import Annotated, Literal

import numpy as np
import pytest

from unveil.checks import Bounds, check_fields, flag, kind, number, one_of, whole, within


@dataclass(frozen=True)
class Settings:
    count: Annotated[int, Bounds(1)] = 1
    share: Annotated[float, Bounds(0, 1, above=True, below=True)] = 0.5
    rate: Annotated[float, Bounds(0, below=True)] = 1.0
    way: Literal["up", "down"] = "up"
    on: bool | None = None
    span: tuple[float, float] = (0.0, 1.0)
    sides: tuple[int, ...] = ()
    name: str = ""
    more: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_fields(self)


def made(name, value):
    """As outside of tests, which check types before."""
    settings = object.__new__(Settings)
    for key, other in (vars(Settings()) | {name: value}).items():
        object.__setattr__(settings, key, other)
    settings.__post_init__()
    return getattr(settings, name)


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("count", 0, "a whole number of at least 1, got 0"),
        ("count", True, "a whole number of at least 1, got True"),
        ("count", 1.0, "a whole number of at least 1, got 1.0"),
        ("share", 0.0, "a number above 0 and below 1, got 0.0"),
        ("share", 1, "a number above 0 and below 1, got 1"),
        ("share", math.nan, "a number above 0 and below 1, got nan"),
        ("rate", math.inf, "a finite number of at least 0, got inf"),
        ("rate", "fast", "a finite number of at least 0, got 'fast'"),
        ("way", "left", "one of 'up', 'down', got 'left'"),
        ("on", 1, "True or False or None, got 1"),
        ("span", (0.0,), "2 values, got tuple"),
        ("span", 3, "2 values, got 3"),
        ("span", ("a", 1.0), "each a number, got tuple"),
        ("sides", (1, 2.5), "each a whole number, got tuple"),
        ("name", 3, "text, got 3"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(name, value, words):
    with pytest.raises(ValueError, match=rf"^{re.escape(f'`{name}` must be {words}')}$"):
        made(name, value)


def test_what_fits_becomes_what_its_field_wants():
    assert made("span", [0, 0.5]) == (0.0, 0.5) and isinstance(made("span", [0, 1])[0], float)
    assert made("sides", [np.int64(3)]) == (3,)
    assert made("rate", 2) == 2.0 and isinstance(made("rate", 2), float)
    assert made("count", np.int64(5)) == 5
    assert made("on", None) is None and made("on", True) is True


def test_arguments_of_functions():
    assert whole("n", np.int64(3)) == 3 and number("x", np.float32(0.5)) == 0.5
    assert within("EMA: decay", 0, Bounds(0, 1, below=True)) == 0.0 and flag("f", np.True_) is True
    for call, words in (
        (lambda: whole("n", 0), "n must be a whole number of at least 1, got 0"),
        (lambda: whole("n", 9, 0, 8), "n must be a whole number in 0 .. 8, got 9"),
        (lambda: number("x", math.nan), "x must be a finite number, got nan"),
        (
            lambda: within("x", 1.0, Bounds(0, 1, below=True)),
            "x must be a number of at least 0 and below 1, got 1.0",
        ),
        (lambda: one_of("w", "c", ("a", "b")), "w must be one of a, b, got 'c'"),
        (lambda: number("x", 10**400), "x must be a finite number, got 1" + "0" * 59),
        (lambda: flag("f", 1), "f must be True or False, got 1"),
        (lambda: kind("m", 3, str, ", a name"), "m must be a str, a name, got 3"),
    ):
        with pytest.raises(ValueError, match=f"^{re.escape(words)}$"):
            call()
