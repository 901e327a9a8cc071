"""Whether a claim of a paper holds here: numbers with intervals, their differences, and curves of two numbers."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, NamedTuple

NOT_RUN = "not run"


class Estimate(NamedTuple):
    """A number with its 95 % interval."""

    mean: float
    low: float
    high: float


class Point(NamedTuple):
    """A point of a curve: a distance, and how much is right there."""

    distance: float
    right: float


def estimate(row: dict[str, Any] | None, name: str) -> Estimate | None:
    """A number of a row, with `_low` and `_high` or `_ci95`; None if it is not there."""
    if row is None or name not in row:
        return None
    value = row[name]
    if f"{name}_low" in row:
        return Estimate(value, row[f"{name}_low"], row[f"{name}_high"])
    half = row.get(f"{name}_ci95", 0.0)
    return Estimate(value, value - half, value + half)


def larger(first: Estimate | None, second: Estimate | None) -> str:
    """Whether the first number is larger: yes or no if their intervals do not meet, else undecided."""
    if first is None or second is None:
        return NOT_RUN
    if first.low > second.high:
        return "yes"
    return "no" if first.high < second.low else "undecided"


def at_least(value: Estimate | None, least: float) -> str:
    """Whether a number is as large as the paper's: yes or no if its interval lies on one side, else undecided."""
    if value is None:
        return NOT_RUN
    if value.low >= least:
        return "yes"
    return "no" if value.high < least else "undecided"


def all_of(verdicts: Sequence[str]) -> str:
    """The verdict on a claim that has several parts: no if one fails, yes if all hold."""
    for worst in (NOT_RUN, "no", "undecided"):
        if worst in verdicts:
            return worst
    return "yes"


def attained(curve: Sequence[Point], distance: float) -> float | None:
    """The most that is right at a distance or below it, on the line through the points in their order; None if
    the curve is never as near."""
    found = [point.right for point in curve if point.distance <= distance]
    for one, other in pairwise(curve):
        near, far = sorted((one, other))
        if near.distance < distance < far.distance:
            share = (distance - near.distance) / (far.distance - near.distance)
            found.append(near.right + share * (far.right - near.right))
    return max(found) if found else None


def advantage(first: Sequence[Point], second: Sequence[Point], count: int = 101) -> float | None:
    """How much more is right on the first curve at equal distance: the mean of the differences of `attained` at
    `count` distances, evenly spaced from the larger of both curves' least distances to the larger of their
    largest ones; None without points."""
    if not first or not second:
        return None
    begin = max(min(point.distance for point in curve) for curve in (first, second))
    end = max(max(point.distance for point in curve) for curve in (first, second))
    total = 0.0
    for k in range(count):
        at = min(end, begin + (end - begin) * k / max(1, count - 1))
        ours, theirs = attained(first, max(at, begin)), attained(second, max(at, begin))
        assert ours is not None and theirs is not None
        total += ours - theirs
    return total / count


def better_curve(
    first: Sequence[tuple[float, Estimate]], second: Sequence[tuple[float, Estimate]]
) -> tuple[Estimate | None, str]:
    """`advantage` of curves of distances and what is right there, and whether it is above 0.

    Its interval is that of the lower ends of one curve against the upper ends of the other, and the reverse,
    which is wider than 95 %.
    """

    def curve(some: Sequence[tuple[float, Estimate]], end: str) -> list[Point]:
        return [Point(distance, getattr(right, end)) for distance, right in some]

    values = [
        advantage(curve(first, ours), curve(second, theirs))
        for ours, theirs in (("mean", "mean"), ("low", "high"), ("high", "low"))
    ]
    if None in values:
        return None, NOT_RUN
    found = Estimate(*(value for value in values if value is not None))
    return found, larger(found, Estimate(0.0, 0.0, 0.0))


def signed(value: Estimate | None, digits: int = 2) -> str:
    """A difference with its interval."""
    if value is None:
        return NOT_RUN
    low, high = (f"{end:+.{digits}f}" for end in value[1:])
    return f"{value.mean:+.{digits}f} ({low} to {high})"
