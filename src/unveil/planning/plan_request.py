"""What a path planner is asked for: two ends, waypoints, horizons, and the noise to begin with."""

from collections.abc import Iterable, Sequence
from math import ceil
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from unveil.arrays import numbers
from unveil.checks import whole
from unveil.planning.path_geometry import at_pace
from unveil.planning.path_model import PathModelShape

Via = tuple[int | None, tuple[float, ...]]


class Request(NamedTuple):
    """One plan's candidates: known positions, a horizon each, and their state at t = 1.

    Args:
        noise: (K, L, D) of the longest plan that there is.
        guess: a path to begin from, of a plan that was given up.
    """

    start: np.ndarray
    goal: np.ndarray
    vias: tuple[tuple[int, np.ndarray], ...]
    horizons: tuple[int, ...]
    noise: Tensor
    guess: np.ndarray | None


def initial(
    source: torch.Generator | Tensor, k: int, positions: int, shape: PathModelShape, temperature: float
) -> Tensor:
    """The state at t = 1, (K, L, D), drawn or recorded; L is the longest plan's, so that noise does not depend on horizons beside it.

    Raises:
        ValueError: recorded noise of other candidates, or of fewer than `positions`.
    """
    size = (k, ceil(shape.longest / shape.patch) * shape.patch, shape.dimensions)
    if isinstance(source, torch.Generator):
        return temperature * torch.randn(size, generator=source, device="cpu")
    if len(source) != k or source.shape[1] < positions:
        raise ValueError(
            f"plan: noise must be of {k} candidates and at least {positions} positions, got shape {tuple(source.shape)}"
        )
    noise = torch.zeros(size, device="cpu")
    noise[:, : source.shape[1]] = source[:, : size[1]]  # what lies behind a path's end is known
    return noise


def recorded(noise: object, axes: int, shape: PathModelShape) -> Tensor:
    """Recorded noise (..., K, L, D) of so many axes as float32.

    Raises:
        ValueError: another shape, or numbers that are not finite.
    """
    letters = f"({'N, ' * (axes - 3)}K, L, {shape.dimensions})"
    return torch.from_numpy(
        numbers("plan: noise", noise, (*[None] * (axes - 1), shape.dimensions), letters).astype(np.float32)
    )


def padded(guess: np.ndarray, length: int, horizon: int) -> np.ndarray:
    """A path at an even pace over `length` positions, and its last one up to the horizon."""
    path = at_pace(guess, length)
    return np.concatenate([path, np.repeat(path[-1:], horizon - length, axis=0)])


def floats(name: str, value: object) -> np.ndarray:
    """Any numbers as float64; NaN passes.

    Raises:
        ValueError: something else.
    """
    try:
        found = np.asarray(value.detach().cpu() if isinstance(value, Tensor) else value)
    except (TypeError, ValueError) as error:
        raise ValueError(f"plan: {name} must be an array of numbers, got {type(value).__name__}") from error
    if found.dtype.kind not in "fiu":
        raise ValueError(f"plan: {name} must be numbers, got {type(value).__name__} of {found.dtype}")
    return found.astype(np.float64)


def vias(via: Iterable[Any]) -> tuple[Via, ...]:
    """Waypoints whose indices are whole numbers or None.

    Raises:
        ValueError: something else.
    """
    found: list[Via] = []
    for entry in via:
        if not isinstance(entry, tuple | list) or len(entry) != 2:
            raise ValueError(f"plan: via must be pairs (index or None, position), got {entry!r:.60}")
        index = None if entry[0] is None else whole("plan: an index of via", entry[0], 0)
        found.append((index, tuple(floats("via", entry[1]).reshape(-1).tolist())))
    return tuple(found)


def in_legs(via: Sequence[Any], horizon: int | None) -> bool:
    """Whether each leg is sampled by itself: waypoints without an index, and no horizon for the whole."""
    return bool(via) and horizon is None and all(index is None for index, _ in vias(via))
