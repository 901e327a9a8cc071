"""Inputs of planners of trajectories, checked: observations and recorded noise."""

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from unveil.arrays import axes_of, numbers


def observations_in(value: object, size: int) -> tuple[Float[np.ndarray, "B D"], bool]:
    """Observations (B, D) in float64, and whether the input was a single one without the axis B.

    Raises:
        ValueError: another shape, or numbers that are not finite.
    """
    single = axes_of(value) == 1
    letters = f"({size},) of one episode or (B, {size})"
    seen = numbers("guided planner: observations", value, (size,) if single else (None, size), letters)
    return (seen[None] if single else seen).astype(np.float64), single


def noise_in(noise: object, shape: tuple[int, int, int], count: int | None = None) -> Tensor:
    """Recorded noise (1 + S, B, K, H, F) in float32; without a count (1 + S, 1, K, H, F), for one plan.

    Args:
        noise: with or without the first axis.
        shape: (K, H, F).
        count: B.
    Raises:
        ValueError: another shape, or numbers that are not finite.
    """
    sizes = shape if count is None else (count, *shape)
    steps = axes_of(noise) == len(sizes) + 1
    letters = f"{sizes}, or (1 + steps, {', '.join(map(str, sizes))})"
    wanted = (None, *sizes) if steps else sizes
    draws = torch.from_numpy(numbers("guided planner: noise", noise, wanted, letters).astype(np.float32))
    draws = draws if steps else draws[None]
    return draws if count is not None else draws[:, None]
