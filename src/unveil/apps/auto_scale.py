"""A rule for the scale of value guidance: the largest whose plans surprise the model no more than recorded behaviour does."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from unveil.apps.trajectory_model import TrajectoryModel, untold
from unveil.process.corrupt import corrupt
from unveil.sampling.noise import generators, normal_like

LEVELS = (0.25, 0.5)  # noise levels: the times t at which plans are noised and denoised again


@torch.no_grad()
def surprise(model: TrajectoryModel, x: Tensor, seed: int = 0) -> Tensor:
    """Mean squared error (N,) with which the model denoises normalised trajectories (N, H, features), over `LEVELS`, first states known.

    Up to a constant factor a piece of the variational bound: large where the model would not have gone by itself. Trajectory i is noised
    with seed + i, whatever stands beside it.
    """
    own = generators(seed, len(x))
    known = model.shape.first_known(x.shape[1]).to(x.device)
    denoise, total = untold(model), torch.zeros(len(x), device=x.device)
    for level in LEVELS:
        t = torch.full((len(x),), level, dtype=torch.float64, device="cpu")
        noise = normal_like(x, own)
        error = denoise(corrupt(model.denoiser.schedule, x, t, noise, known), t).mean - x
        total += torch.where(known, 0.0, error**2).flatten(1).mean(1)
    return total / len(LEVELS)


def largest_unsurprising(
    model: TrajectoryModel, plans: Callable[[float], Tensor], recorded: Tensor, scales: Sequence[float]
) -> tuple[float, dict[float, float]]:
    """The largest of `scales` whose plans have a mean surprise of at most that of recorded windows, and every scale's ratio to it.

    Args:
        plans: scale -> normalised plans (N, H, features) from states that were not trained on.
        recorded: windows (M, H, features) from such states.
    Returns:
        0.0 as the scale if even the smallest surprises more.
    """
    usual = float(surprise(model, recorded).mean())
    ratios = {scale: float(surprise(model, plans(scale)).mean()) / usual for scale in sorted(scales)}
    return max((scale for scale, ratio in ratios.items() if ratio <= 1.0), default=0.0), ratios
