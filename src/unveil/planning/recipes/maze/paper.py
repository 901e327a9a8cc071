"""Diffuser as published, on the maze recipe: `unveil train maze --preset paper`."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import torch

    from unveil.planning.data.episodes import Episodes
    from unveil.planning.recipes.maze.config import TrainMaze
    from unveil.planning.trajectory_model import TrajectoryModel
    from unveil.planning.trajectory_training import TrajectoryBatch
    from unveil.planning.worlds.maze.layout import Layout
    from unveil.runs.training import Task

HORIZONS = {"umaze": (128, 64), "medium": (256, 256), "large": (384, 256)}  # H and T of the released configs


def published_shape(layout: Layout) -> tuple[int, int]:
    """Horizon and number of diffusion steps: those of the released configs; for other mazes about half an
    episode, and 256."""
    return HORIZONS.get(layout.name.removeprefix("eval-"), (max(16, layout.steps // 2 // 16 * 16), 256))


def between_goals(episodes: Episodes, goal: np.ndarray, radius: float = 0.5) -> Episodes:
    """The recording, cut where the maze's goal is left (`maze2d_set_terminals`) instead of at its marks;
    observations are (x, y, vx, vy)."""
    from dataclasses import replace

    import numpy as np

    from unveil.planning.recipes.maze.data import unmarked

    whole = unmarked(episodes)
    at_goal = np.linalg.norm(episodes.observations[:, :2] - goal, axis=1) < radius
    left = np.append(at_goal[:-1] & ~at_goal[1:], False)
    return replace(
        whole, observations=whole.observations[:, :4], timeouts=whole.timeouts | left, final_observations=None
    )


def ends_of(model: TrajectoryModel, x_0: torch.Tensor) -> torch.Tensor:
    """The known numbers of a plan: its first and its last state."""
    from unveil.planning.diffuser import ends_known

    return ends_known(x_0.shape[1]).to(x_0.device)


def paper_task(config: TrainMaze, episodes: Episodes, layout: Layout) -> Task:
    """The task of training Diffuser as published: batch size, steps, learning rate and width of the config,
    and else the released constants."""
    from functools import partial

    import torch

    from unveil.errors import UnveilError
    from unveil.files.notes import note
    from unveil.planning.data.trajectories import Trajectories
    from unveil.planning.diffuser import maze_shape
    from unveil.planning.recipes.locomotion.train import learn_normalization
    from unveil.planning.trajectory_model import TrajectoryModel
    from unveil.planning.trajectory_training import trajectory_batches, trajectory_loss
    from unveil.runs.training import Task

    if episodes.observations.shape[1] < 4 or episodes.actions.shape[1] != 2:
        raise UnveilError("`preset='paper'` needs observations (x, y, vx, vy) and actions of 2 numbers")
    shape = maze_shape(*published_shape(layout), config.width)
    cut = between_goals(episodes, layout.goal)
    windows, size = Trajectories(cut, unpadded=shape.horizon), config.run.batch_size
    if windows.episodes < len(cut.ends):
        note(
            f"{len(cut.ends) - windows.episodes} of {len(cut.ends)} pieces between visits to the goal are "
            "shorter than the horizon of "
            f"{shape.horizon} steps and are left out, as the published code does"
        )

    def draws(count: int) -> Callable[[torch.Generator], TrajectoryBatch]:
        return trajectory_batches(windows, shape, count)

    torch.manual_seed(config.run.seed)  # initial weights
    model = TrajectoryModel(shape)
    learn_normalization(model, cut, "limits")
    loss = partial(trajectory_loss, known=ends_of)
    described = {
        "longest": shape.horizon,
        "diffusion_steps": shape.diffusion_steps,
        "episodes": windows.episodes,
    }
    return Task(model, draws(size), loss, described, draws=draws, size=size, lower="--width")
