"""The request of one plan: start, goal, waypoints and horizons, checked once, and the noise that sampling
begins with."""

from collections.abc import Iterable, Sequence
from math import ceil
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from unveil.arrays import numbers
from unveil.checks import whole
from unveil.planning.path_geometry import at_pace
from unveil.planning.path_model import PathModelShape

Via = tuple[int | None, Sequence[float] | np.ndarray]
"""A waypoint: the number of the path's position, or None, and the position; NaN leaves a coordinate free."""
Waypoint = tuple[int | None, np.ndarray]
"""A checked waypoint."""


class Request(NamedTuple):
    """What the candidates of one plan are sampled from.

    Args:
        points: (2 + V, D), start, waypoints and goal in the data's units, on the model's device; NaN where a
            coordinate is free.
        goal: (D,), the goal in the data's units.
        gates: (V,), the number of the path's position that is each waypoint.
        lengths: (K,), positions of each candidate.
        noise: (K, L, D), the state at t = 1; L positions of the longest plan that the model makes.
        guess: (M, D), a path from which sampling begins, of a plan that was given up.
    """

    points: Float[Tensor, "V D"]
    goal: Float[np.ndarray, " D"]
    gates: tuple[int, ...]
    lengths: tuple[int, ...]
    noise: Float[Tensor, "K L D"]
    guess: Float[np.ndarray, "M D"] | None = None


def initial(
    source: torch.Generator | Tensor, k: int, positions: int, shape: PathModelShape, temperature: float
) -> Float[Tensor, "K L D"]:
    """The state at t = 1, drawn or recorded. It has the size of the longest plan, so that noise does not
    depend on the horizons beside it.

    Raises:
        ValueError: recorded noise for other than `k` candidates, or for fewer than `positions`.
    """
    size = (k, ceil(shape.longest / shape.patch) * shape.patch, shape.dimensions)
    if isinstance(source, torch.Generator):
        return temperature * torch.randn(size, generator=source, device="cpu")
    if len(source) != k or source.shape[1] < positions:
        raise ValueError(
            f"plan: noise must be of {k} candidates and at least {positions} positions, got shape "
            f"{tuple(source.shape)}"
        )
    noise = torch.zeros(size, device="cpu")
    noise[:, : source.shape[1]] = source[:, : size[1]]  # positions behind the end of a path are known
    return noise


def recorded(noise: object, axes: int, shape: PathModelShape) -> Tensor:
    """Recorded noise (..., K, L, D) with this number of axes, in float32.

    Raises:
        ValueError: another shape, or numbers that are not finite.
    """
    letters = f"({'N, ' * (axes - 3)}K, L, {shape.dimensions})"
    return torch.from_numpy(
        numbers("plan: noise", noise, (*[None] * (axes - 1), shape.dimensions), letters).astype(np.float32)
    )


def padded(guess: np.ndarray, length: int, horizon: int) -> np.ndarray:
    """`length` positions evenly spaced along a path, then its last position up to the horizon."""
    path = at_pace(guess, length)
    return np.concatenate([path, np.repeat(path[-1:], horizon - length, axis=0)])


def floats(name: str, value: object) -> np.ndarray:
    """Numbers as a float64 array. NaN is allowed.

    Raises:
        ValueError: no array of numbers.
    """
    try:
        array = np.asarray(value.detach().cpu() if isinstance(value, Tensor) else value)
    except (TypeError, ValueError) as error:
        raise ValueError(f"plan: {name} must be an array of numbers, got {type(value).__name__}") from error
    if array.dtype.kind not in "fiu":
        raise ValueError(f"plan: {name} must be numbers, got {type(value).__name__} of {array.dtype}")
    return array.astype(np.float64)


def waypoints(via: Iterable[object]) -> tuple[Waypoint, ...]:
    """Checked waypoints: each index a whole number or None, each position a float64 array.

    Raises:
        ValueError: an entry that is no pair of these.
    """
    checked: list[Waypoint] = []
    for entry in via:
        if not isinstance(entry, tuple | list) or len(entry) != 2:
            raise ValueError(f"plan: via must be pairs (index or None, position), got {entry!r:.60}")
        index = None if entry[0] is None else whole("plan: an index of via", entry[0], 0)
        checked.append((index, floats("via", entry[1]).reshape(-1)))
    return tuple(checked)


def in_legs(via: Sequence[Waypoint], horizon: int | None) -> bool:
    """Whether each leg is sampled separately: waypoints without indices, and no horizon of the whole path."""
    return bool(via) and horizon is None and all(index is None for index, _ in via)
