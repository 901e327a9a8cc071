"""Diffuser as published, on the maze recipe: `unveil train maze --preset paper`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import numpy as np
    import torch

    from unveil.data.episodes import Episodes
    from unveil.recipes.maze import TrainMaze
    from unveil.recipes.maze_train import Task
    from unveil.worlds.maze.layout import Layout

HORIZONS = {"umaze": (128, 64), "medium": (256, 256), "large": (384, 256)}  # H, T of the released configs


def published_shape(layout: Layout) -> tuple[int, int]:
    """Horizon and diffusion steps: the released ones, or for other mazes about half an episode and 256."""
    return HORIZONS.get(layout.name.removeprefix("eval-"), (max(16, layout.steps // 2 // 16 * 16), 256))


class TrajectoryBatch(NamedTuple):
    """Windows (B, H, 6) of actions and states in the data's units, and all that is random about their loss."""

    rows: torch.Tensor
    t: torch.Tensor
    noise: torch.Tensor


def goal_segments(episodes: Episodes, goal: np.ndarray, radius: float = 0.5) -> np.ndarray:
    """First step and length of each segment: they end where the world's one goal is left (`maze2d_set_terminals`), not at the marks."""
    import numpy as np

    from unveil.recipes.maze_train import unmarked

    at_goal = np.linalg.norm(episodes.observations[:, :2] - goal, axis=1) < radius
    left = np.flatnonzero(at_goal[:-1] & ~at_goal[1:]) + 1
    bounds = np.unique(np.concatenate([[0], left, unmarked(episodes).ends]))
    return np.stack([bounds[:-1], np.diff(bounds)], axis=1)


def trajectory_batches(
    episodes: Episodes, layout: Layout, horizon: int, steps: int, size: int
) -> Callable[[torch.Generator], TrajectoryBatch]:
    """A source of random windows of exactly `horizon` steps within a segment, without padding.

    Raises:
        UnveilError: no segment is that long.
    """
    import numpy as np
    import torch

    from unveil.errors import UnveilError

    rows = torch.from_numpy(np.concatenate([episodes.actions, episodes.observations[:, :4]], axis=1).astype(np.float32))
    windows = [
        np.arange(first, first + length - horizon + 1) for first, length in goal_segments(episodes, layout.goal) if length >= horizon
    ]
    if not windows:
        raise UnveilError(f"these data have no segment of {horizon} steps between two visits of the goal")
    starts = torch.from_numpy(np.concatenate(windows))

    def draw(generator: torch.Generator) -> TrajectoryBatch:
        first = starts[torch.randint(len(starts), (size,), generator=generator, device="cpu")]
        window = rows[first[:, None] + torch.arange(horizon, device="cpu")]
        t = (1.0 + torch.randint(steps, (size,), generator=generator, device="cpu")) / steps
        return TrajectoryBatch(window, t, torch.randn(window.shape, generator=generator, device="cpu"))

    return draw


def trajectory_loss(model: torch.nn.Module, batch: TrajectoryBatch) -> tuple[torch.Tensor, Mapping[str, float]]:
    """Mean squared error of x_0 over all but the known ends."""
    from unveil.apps.diffuser import ends_known
    from unveil.apps.trajectory_model import TrajectoryModel
    from unveil.process.objective import denoising_loss

    assert isinstance(model, TrajectoryModel)
    device = model.normalization.low.device
    x_0 = model.normalization.normalized(batch.rows.to(device))
    known = ends_known(x_0.shape[1]).to(device)
    return denoising_loss(model.denoiser, x_0, batch.t, batch.noise.to(device), known=known).mean(), {}


def paper_task(config: TrainMaze, episodes: Episodes, layout: Layout) -> Task:
    """Diffuser as published; of the recipe's own fields it reads batch, steps, rates and width, and the released constants otherwise."""
    import numpy as np
    import torch

    from unveil.apps.diffuser import maze_shape
    from unveil.apps.trajectory_model import TrajectoryModel
    from unveil.errors import UnveilError
    from unveil.recipes.maze_train import Task

    if episodes.observations.shape[1] < 4 or episodes.actions.shape[1] != 2:
        raise UnveilError("--preset paper needs observations (x, y, vx, vy) and actions of 2 numbers")
    horizon, steps = published_shape(layout)
    draw = trajectory_batches(episodes, layout, horizon, steps, config.batch_size)
    torch.manual_seed(config.seed)  # initial weights
    model = TrajectoryModel(maze_shape(horizon, steps, config.width))
    model.normalization.learn(np.concatenate([episodes.actions, episodes.observations[:, :4]], axis=1), "limits")
    constant = {"warmup": 0, "final_fraction": 1.0, "betas": (0.9, 0.999), "clip": float("inf")}
    return Task(model, draw, trajectory_loss, horizon, constant, {"diffusion_steps": steps})
