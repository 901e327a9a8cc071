"""Training batches of a `StackingModel`, with their noise, and its loss."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn

from unveil.planning.data.stacking_states import JOINTS, SIZE
from unveil.planning.data.stacking_windows import StackingWindows
from unveil.planning.stacking.model import StackingModel, first_known
from unveil.process.objective import denoising_loss

JOINT_WEIGHT = 5.0
"""Loss weight of the joints, which must be exact, to that of the other numbers."""


class StackingBatch(NamedTuple):
    """Windows, and the random numbers of their loss.

    Args:
        rows: (B, H, 39), goals: (B, 4, 3), in their units.
        told: (B,) bool, rows that are told their goal.
        t: (B,), diffusion times in (0, 1], stratified.
        noise: (B, H, 39), standard normal.
    """

    rows: Tensor
    goals: Tensor
    told: Tensor
    t: Tensor
    noise: Tensor


def stacking_batches(
    windows: StackingWindows, size: int, drop: float = 0.2
) -> Callable[[torch.Generator], StackingBatch]:
    """A function generator -> random batch.

    Args:
        size: B, windows per batch.
        drop: probability that a window is not told its goal.
    """

    def draw(generator: torch.Generator) -> StackingBatch:
        def uniform() -> Tensor:
            return torch.rand(size, generator=generator, device="cpu")

        rows, goals = windows.draw(size, generator)
        t = (torch.randperm(size, generator=generator, device="cpu") + uniform()).div(size).clamp(min=1e-3)
        noise = torch.randn(rows.shape, generator=generator, device="cpu")
        return StackingBatch(rows, goals, uniform() >= drop, t, noise)

    return draw


def stacking_loss(model: nn.Module, batch: StackingBatch) -> tuple[Tensor, Mapping[str, float]]:
    """The mean squared error of the predicted clean plans, joints with `JOINT_WEIGHT`."""
    assert isinstance(model, StackingModel)
    device = model.device
    rows, goals = batch.rows.to(device), batch.goals.to(device)
    x_0 = model.normalization.normalized(rows)
    importance = torch.ones(SIZE, device=device)
    importance[:JOINTS] = JOINT_WEIGHT
    cond = model.condition(rows[:, 0], goals, batch.told.to(device))
    known = first_known(rows.shape[1]).to(device)
    t, noise = batch.t.to(device), batch.noise.to(device)
    loss = denoising_loss(
        model.denoiser, x_0, t, noise, cond=cond, known=known, importance=importance / importance.mean()
    )
    return loss.mean(), {}
