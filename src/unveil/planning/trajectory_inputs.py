"""Inputs of planners of trajectories, checked: recorded noise and units."""

import numpy as np
import torch
from torch import Tensor

from unveil.arrays import axes_of, numbers
from unveil.errors import UnveilError
from unveil.planning.trajectory_model import TrajectoryModel


def noise_in(
    noise: object, shape: tuple[int, ...], count: int | None = None, what: str = "guided planner"
) -> Tensor:
    """Recorded noise (1 + S, B, ...) in float32; without a count (1 + S, 1, ...), for one plan.

    Args:
        noise: with or without the first axis.
        shape: (K, H, F) or (H, F).
        count: B.
        what: the planner, for messages.
    Raises:
        ValueError: another shape, or numbers that are not finite.
    """
    sizes = shape if count is None else (count, *shape)
    steps = axes_of(noise) == len(sizes) + 1
    letters = f"{sizes}, or (1 + steps, {', '.join(map(str, sizes))})"
    wanted = (None, *sizes) if steps else sizes
    draws = torch.from_numpy(numbers(f"{what}: noise", noise, wanted, letters).astype(np.float32))
    draws = draws if steps else draws[None]
    return draws if count is not None else draws[:, None]


def check_units(model: TrajectoryModel, normalized: bool) -> None:
    """Refuse to plan in the data's units with a model that lacks the statistics of its data.

    Raises:
        UnveilError: it lacks them, and `normalized` is false.
    """
    if not (normalized or model.normalization.learned):
        raise UnveilError(
            "these weights came without the statistics of their data, so they plan in normalised units only "
            "(plan(..., normalized=True)); give the data set: unveil.load(..., dataset=NAME), or unveil "
            "weights convert --dataset NAME"
        )
