"""Train a maze planner: `unveil train maze`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from unveil.checks import whole
from unveil.files.json_objects import JsonObject
from unveil.planning.recipes.maze.data import load_data, unmarked
from unveil.planning.recipes.maze.load import find_layout, path_model, published_model
from unveil.runs.flags import flat

INHERITED = ("width", "depth", "heads", "stride", "patch")  # of the checkpoint that a training begins with
OWN = ("support", "speed_limit", "acceleration_limit")  # tensors that describe the maze, not the network

if TYPE_CHECKING:
    import torch

    from unveil.planning.data.episodes import Episodes
    from unveil.planning.data.windows import ListedWindows, PathWindows
    from unveil.planning.path_training import PathBatch
    from unveil.planning.recipes.maze.config import TrainMaze
    from unveil.planning.worlds.maze.layout import Layout
    from unveil.runs.progress import Progress
    from unveil.runs.training import Task


def find_windows(episodes: Episodes, config: TrainMaze, progress: Progress) -> PathWindows | ListedWindows:
    """Training windows: between the marks of the data, or without `cut` the direct windows of data without
    marks."""
    import torch

    from unveil.files.notes import note
    from unveil.planning.data.windows import PathWindows
    from unveil.planning.direct_trips import direct_windows

    if config.cut:
        windows = PathWindows(episodes, 2, config.stride, config.to_end)
    else:
        windows = PathWindows(
            episodes, 2, config.stride, to_end=0.0, longest=max(2, config.window_steps // config.stride)
        )
    if windows.episodes < (count := len(episodes.ends)):
        note(
            f"{count - windows.episodes} of {count} episodes have no more than {config.stride} steps "
            "(`stride`) and are left out"
        )
    if config.cut:
        return windows
    generator = torch.Generator(device="cpu").manual_seed(config.run.seed)
    return direct_windows(
        windows, generator, progress=lambda done, total: progress("finding direct trips", done, total, {})
    )


def path_task(config: TrainMaze, episodes: Episodes, progress: Progress) -> Task:
    """The task of training paths of all lengths between two ends."""
    import torch

    from unveil.files.notes import note
    from unveil.planning.path_training import path_batches, path_loss
    from unveil.runs.training import Task

    episodes = episodes if config.cut else unmarked(episodes)
    windows = find_windows(episodes, config, progress)
    torch.manual_seed(config.run.seed)  # initial weights
    model = path_model(flat(config) | {"longest": windows.longest})
    if constant := model.learn_statistics(episodes):
        note(
            f"coordinate {' and '.join(map(str, constant))} (from 0) varies by less than 1e-4 of its size, "
            "so it counts as constant"
        )
    described = {"longest": windows.longest, "episodes": windows.episodes}
    size = config.run.batch_size

    def draws(count: int) -> Callable[[torch.Generator], PathBatch]:
        return path_batches(windows, count, config.waypoints)

    return Task(model, draws(size), path_loss, described, draws=draws, size=size, lower="--width or --depth")


def train_maze(config: TrainMaze, progress: Progress) -> Path:
    """Train a maze planner; returns the run folder."""
    from functools import partial

    from unveil.planning.recipes.maze.config import TrainMaze
    from unveil.planning.recipes.maze.paper import paper_task
    from unveil.runs.finetuning import beginning, freeze, take_over
    from unveil.runs.training import as_json, begin, run_task

    layout = find_layout(config.maze)
    run = config.run.out or Path("runs") / f"maze-{layout.name}-{config.preset}"
    begun = beginning(config.run, run)
    config = config if begun is None else begun_with(config, begun)
    check_training(config)
    device = begin(config.run, run)
    episodes = load_data(config, progress)
    task = (
        paper_task(config, episodes, layout)
        if config.preset == "paper"
        else path_task(config, episodes, progress)
    )
    if begun is not None:  # where data went, and how fast, is always that of the new data
        take_over(task.model, begun, config.run, ("mean", "deviation", "normalization."), OWN)
        freeze(config.run, None, "a planner of mazes")
    described = flat(config) | {
        "recipe": "maze",
        "maze": layout.name,
        "rows": layout.rows,
        "episode_steps": layout.steps,
    }
    described = as_json(described | dict(task.config))
    run_task(
        task,
        config.run,
        device,
        run,
        described,
        TrainMaze(),
        progress,
        partial(draw_samples, layout, described, run),
    )
    return run


def begun_with(config: TrainMaze, folder: Path) -> TrainMaze:
    """The config with the network of the checkpoint that it begins with.

    Raises:
        UnveilError: a checkpoint of Diffuser as published for another preset, or the reverse.
    """
    from unveil.errors import UnveilError
    from unveil.planning.recipes.maze.load import read_maze_config
    from unveil.runs.finetuning import inherited

    has = read_maze_config(folder)
    if (has["preset"] == "paper") != (config.preset == "paper"):
        raise UnveilError(
            f"{config.run.source} has the preset {has['preset']}, not {config.preset}; give `preset="
            f"{has['preset']}`"
        )
    return inherited(config, has, INHERITED)


def draw_samples(
    layout: Layout, config: JsonObject, run: Path, step: int, weights: dict[str, torch.Tensor]
) -> None:
    """Draw four plans, always between the same free cells, to `samples/step-<step>.png` of the run folder.

    Errors become warnings, so that a picture never stops a training.
    """
    import warnings

    from unveil.errors import UnveilError

    try:
        _draw_samples(layout, config, run, step, weights)
    except (UnveilError, ValueError, OSError, ImportError) as error:
        warnings.warn(f"no picture of samples at step {step}: {error}", stacklevel=2)


def _draw_samples(
    layout: Layout, config: JsonObject, run: Path, step: int, weights: dict[str, torch.Tensor]
) -> None:
    import numpy as np
    import torch

    from unveil.files.pictures import write_png
    from unveil.planning.diffuser import Diffuser
    from unveil.planning.evaluation.maze_pictures import MazePicture
    from unveil.planning.path_model import PathModel
    from unveil.planning.planner import Planner
    from unveil.planning.trajectory_model import fast_trajectories
    from unveil.runs.checkpoints import with_weights

    model = published_model(config) if config["preset"] == "paper" else path_model(config)
    with_weights(model, weights, torch.device("cpu"))
    planner = Planner(model) if isinstance(model, PathModel) else Diffuser(fast_trajectories(model))
    rng = np.random.default_rng(0)
    picture = MazePicture(layout, panels=4, width=3.0)
    for panel in range(4):
        start, goal = layout.cells[rng.choice(len(layout.cells), 2, replace=len(layout.cells) < 2)]
        plan = planner.plan(np.concatenate([start, np.zeros(2)]), goal)
        picture.ends(panel, start, goal)
        picture.path(panel, plan.path)
        picture.title(panel, f"step {step}" if panel == 0 else "")
    (run / "samples").mkdir(exist_ok=True)
    write_png(run / "samples" / f"step-{step:06d}.png", picture.frame(), own_folder=True)


def check_training(config: TrainMaze) -> None:
    """Refuse fields that do not fit each other.

    Raises:
        ValueError: the field, what is needed and what was given.
    """
    from unveil.planning.recipes.maze.config import TRAIN_PRESETS

    whole("`batch_size`", config.run.batch_size)
    if config.preset == "paper":
        for name in ("cut", "window_steps", "depth", "heads", "stride", "patch", "to_end", "waypoints"):
            if getattr(config, name) != getattr(TRAIN_PRESETS["paper"], name):
                raise ValueError(f"`preset='paper'` takes no `{name}`: it is Diffuser as published")
        if config.width % 8:
            raise ValueError(f"`width` must be a multiple of 8 with `preset='paper'`, got {config.width}")
    if config.width % (2 * config.heads):
        raise ValueError(
            f"`width` must be a multiple of twice `heads`, got {config.width} and {config.heads}"
        )
