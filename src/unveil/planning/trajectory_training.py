"""Training batches of trajectory and value models, with their noise, and their losses."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from unveil.planning.data.trajectories import Trajectories
from unveil.planning.networks.quantiles import pinball
from unveil.planning.trajectory_model import (
    TRAVEL_LEVELS,
    TrajectoryModel,
    TrajectoryShape,
    ValueModel,
    return_condition,
)
from unveil.process.corrupt import corrupt
from unveil.process.objective import denoising_loss

Known = Callable[[TrajectoryModel, Tensor], Tensor]
"""(model, x_0 (B, H, F)) -> which numbers of x_0 stay clean, bool, broadcastable."""


class TrajectoryBatch(NamedTuple):
    """Windows of actions and observations, and the random numbers of their loss.

    Args:
        rows: (B, H, A + D), in the data's units.
        valid: (B, H), rows that are no padding.
        t: (B,), diffusion times in 1 / T .. 1; 0 for clean windows.
        noise: (B, H, F), standard normal noise of the planned part of the rows.
        target: (B,), the return that follows each window; for denoising its rank among all returns, NaN where
            the condition is dropped.
        ahead: (B,), the row of each window to which the number of steps is learned, for models of goals.
    """

    rows: Tensor
    valid: Tensor
    t: Tensor
    noise: Tensor
    target: Tensor | None = None
    ahead: Tensor | None = None


def trajectory_batches(
    windows: Trajectories,
    shape: TrajectoryShape,
    size: int,
    targets: Float[Tensor, " N"] | None = None,
    clean: float = 0.0,
    horizons: tuple[int, ...] = (),
    drop: float = 0.0,
) -> Callable[[torch.Generator], TrajectoryBatch]:
    """A function generator -> random batch.

    Windows of models of goals are not padded, so that the last row is reached at the last step.

    Args:
        windows: the data.
        shape: sizes of the model.
        size: B, windows per batch.
        targets: (N,), the target of the window that begins at each step of the data.
        clean: probability that a window is clean (t = 0).
        horizons: lengths from which each batch draws one; by default the shape's horizon.
        drop: probability of dropping the target (NaN), for classifier-free guidance.
    """

    def draw(generator: torch.Generator) -> TrajectoryBatch:
        def whole(high: int, *count: int) -> Tensor:
            return torch.randint(high, count, generator=generator, device="cpu")

        horizon = horizons[int(whole(len(horizons), 1))] if horizons else shape.horizon
        first = windows.draw_whole(size, horizon, generator) if shape.goal else windows.draw(size, generator)
        rows, valid = windows.windows(first, horizon)
        t = (1.0 + whole(shape.diffusion_steps, size)).double() / shape.diffusion_steps
        if clean:
            t[torch.rand(size, generator=generator, device="cpu") < clean] = 0.0
        noise = torch.randn((*rows.shape[:2], shape.features), generator=generator, device="cpu")
        target = None if targets is None else targets[first]
        if target is not None and drop:
            hidden = torch.rand(size, generator=generator, device="cpu") < drop
            target = torch.where(hidden, torch.full_like(target, torch.nan), target)
        ahead = 1 + whole(horizon - 1, size) if shape.goal else None
        return TrajectoryBatch(rows, valid, t, noise, target, ahead)

    return draw


def first_observation(model: TrajectoryModel, x_0: Tensor) -> Tensor:
    """The known numbers of a plan from a state: its first observation."""
    return model.shape.first_known(x_0.shape[1]).to(x_0.device)


def trajectory_loss(
    model: nn.Module,
    batch: TrajectoryBatch,
    known: Known = first_observation,
    action_weight: float = 1.0,
    discount: float = 1.0,
) -> tuple[Tensor, Mapping[str, float]]:
    """Denoising loss of the planned rows; for a model of observations plus the squared error of the inverse
    dynamics, for a model of goals plus the quantile loss of the number of steps to a goal.

    Args:
        known: which numbers of a window stay clean.
        action_weight: loss weight of the first action (published: 10).
        discount: row h has the loss weight discount^h, scaled to a mean of 1 (published: 1).
    Returns:
        The loss, and its parts for the log.
    """
    assert isinstance(model, TrajectoryModel)
    shape, device = model.shape, model.device
    rows = model.normalization.normalized(batch.rows.to(device))
    x_0 = rows[..., shape.planned]
    importance = (discount ** torch.arange(x_0.shape[1], device=device, dtype=x_0.dtype))[:, None].repeat(
        1, shape.features
    )
    importance = importance / importance.mean()
    if not shape.inverse:
        importance[0, : shape.actions] = action_weight
    noise = batch.noise.to(device)
    cond = return_condition(batch.target.to(device)) if shape.returns and batch.target is not None else None
    loss = denoising_loss(
        model.denoiser, x_0, batch.t, noise, cond=cond, known=known(model, x_0), importance=importance
    ).mean()
    parts: dict[str, float] = {}
    if shape.goal and batch.ahead is not None:
        travel = travel_loss(model, x_0[..., -shape.observations :], batch.ahead.to(device))
        loss, parts = loss + travel, {"travel_loss": float(travel.detach())}
    if not shape.inverse:
        return loss, parts
    pairs = torch.cat([x_0[:, :-1], x_0[:, 1:]], dim=-1)
    error = (model.inverse(pairs) - rows[:, :-1, : shape.actions]) ** 2
    valid = batch.valid[:, 1:, None].to(device)
    inverse = (error * valid).sum() / (valid.sum() * shape.actions).clamp(min=1)
    return loss + inverse, parts | {"inverse_loss": float(inverse.detach())}


def travel_loss(model: TrajectoryModel, seen: Tensor, ahead: Tensor) -> Tensor:
    """The quantile loss of log k, where k steps lie between the first observation of a window and the goal of
    its row k.

    Args:
        seen: (B, H, D), normalised observations.
        ahead: (B,), the k of each window.
    """
    goal = seen[torch.arange(len(seen), device=seen.device), ahead][:, list(model.shape.goal)]
    steps = model.travel(torch.cat([seen[:, 0], goal], dim=1))
    return pinball(steps, ahead.to(seen.dtype).log(), TRAVEL_LEVELS).mean()


def value_loss(model: nn.Module, batch: TrajectoryBatch) -> tuple[Tensor, Mapping[str, float]]:
    """Mean squared error of the value of noisy windows whose first observation is clean, in units of the
    targets' standard deviation."""
    assert isinstance(model, ValueModel) and batch.target is not None
    shape, device = model.shape, model.offset.device
    x_0 = model.normalization.normalized(batch.rows.to(device))[..., shape.planned]
    known = shape.first_known(x_0.shape[1]).to(device)
    x_t = corrupt(model.schedule, x_0, batch.t, batch.noise.to(device), known)
    error = (model(x_t, batch.t) - batch.target.to(device)) / model.scale
    squared = error**2
    shares: dict[str, float] = {}
    if bool((batch.t == 0.0).any()):
        shares["clean_loss"] = float(squared[(batch.t == 0.0).to(device)].mean().detach())
    return squared.mean(), shares
