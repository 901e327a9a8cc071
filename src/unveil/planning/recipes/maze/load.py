"""Load a maze planner from a run folder, a checkpoint or packaged weights."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from unveil.files.json_objects import JsonObject
from unveil.planning.planner_settings import PlannerSettings
from unveil.planning.recipes.config_checks import check_maze
from unveil.runs.config import read_config

if TYPE_CHECKING:
    from unveil.planning.diffuser import Diffuser
    from unveil.planning.path_model import PathModel
    from unveil.planning.planner import Planner
    from unveil.planning.trajectory_model import TrajectoryModel
    from unveil.planning.worlds.maze.layout import Layout


def maze_names() -> list[str]:
    """The names of the mazes that `find_layout` knows."""
    from unveil.planning.worlds.maze.layout import LAYOUTS

    return list(LAYOUTS)


def find_layout(maze: str) -> Layout:
    """A layout by its name, or read from a text map."""
    from unveil.errors import UnveilError
    from unveil.planning.worlds.maze.layout import LAYOUTS, named_layout, parse_layout

    path = Path(maze)
    if maze not in LAYOUTS and (path.suffix == ".txt" or path.is_file()):
        if not path.is_file():
            raise UnveilError(
                f"{maze}: {'a folder, but a text map is needed' if path.is_dir() else 'no such map file'}"
            )
        try:
            return parse_layout(path.read_text(encoding="utf-8"), name=path.stem)
        except UnicodeDecodeError as error:
            raise UnveilError(
                f"{maze}: not UTF-8 text, so no map (byte {error.start} is {error.object[error.start]:#x})"
            ) from error
    return named_layout(maze)


def load_planner(
    folder: Path,
    device: str = "auto",
    seed: int = 0,
    settings: PlannerSettings | None = None,
    **fields: object,
) -> Planner:
    """A `Planner` from a run folder, a checkpoint folder or the folder of a packaged model.

    Args:
        settings: how to plan; or `fields` of `PlannerSettings`.
    Raises:
        UnveilError: the checkpoint is of the preset `paper`.
    """
    settings = replace(PlannerSettings(), **fields) if settings is None else settings
    return planner_of(read_maze_config(folder), folder, device, seed, settings)


def planner_of(
    described: JsonObject, folder: Path, device: str, seed: int, settings: PlannerSettings
) -> Planner:
    """The `Planner` of a checkpoint whose config.json is read.

    Raises:
        UnveilError: the checkpoint is of the preset `paper`.
    """
    from unveil.errors import UnveilError
    from unveil.planning.planner import Planner
    from unveil.runs.checkpoints import load_weights

    if described["preset"] == "paper":
        raise UnveilError(
            f"{folder} is Diffuser as published (preset paper), which only `unveil eval maze` drives; give "
            "another checkpoint"
        )
    model = path_model(described)
    load_weights(model, folder, device)
    return Planner(model, settings, seed=seed)


def load_driver(
    folder: Path,
    device: str = "auto",
    seed: int = 0,
    settings: PlannerSettings | None = None,
    **fields: object,
) -> Planner | Diffuser:
    """The planner of a checkpoint: `Planner`, or `Diffuser` for the preset `paper`, which has no settings.

    Args:
        settings: how to plan; or `fields` of `PlannerSettings`.
    Raises:
        TypeError: a field that there is not, or settings of `Diffuser`.
    """
    from unveil.planning.diffuser import Diffuser
    from unveil.planning.trajectory_model import fast_trajectories
    from unveil.runs.checkpoints import load_weights

    described = read_maze_config(folder)
    if described["preset"] != "paper":
        settings = replace(PlannerSettings(), **fields) if settings is None else settings
        return planner_of(described, folder, device, seed, settings)
    if settings or fields:
        names = f", got {', '.join(fields)}" if fields else ""
        raise TypeError(f"load: Diffuser as published (preset paper) takes no settings{names}")
    model = published_model(described)
    load_weights(model, folder, device)
    return Diffuser(fast_trajectories(model), seed=seed)


def path_model(config: JsonObject) -> PathModel:
    """The untrained model of a run's config."""
    from unveil.planning.path_model import PathModel, PathModelShape

    sizes = ("stride", "patch", "width", "depth", "heads", "longest")
    return PathModel(PathModelShape(**{name: config[name] for name in sizes}))


def published_model(config: JsonObject) -> TrajectoryModel:
    """The untrained model of a run with the preset `paper`; without sizes of a U-Net in the config, of the
    released ones."""
    from unveil.planning.diffuser import maze_shape
    from unveil.planning.trajectory_model import TrajectoryModel

    sizes = {name: config[name] for name in ("attention", "predicts") if name in config}
    multiples = tuple(config.get("multiples", (1, 4, 8)))
    horizon, steps, width = config["longest"], config["diffusion_steps"], config["width"]
    return TrajectoryModel(maze_shape(horizon, steps, width, multiples, **sizes))


def layout_of(config: JsonObject) -> Layout:
    """The maze of a run's config."""
    from unveil.planning.worlds.maze.layout import LAYOUTS, Layout

    rows = tuple(config["rows"])
    known = LAYOUTS.get(config["maze"])
    return (
        known
        if known is not None and known.rows == rows
        else Layout(config["maze"], rows, int(config["episode_steps"]))
    )


def read_maze_config(folder: Path) -> JsonObject:
    """The config.json of a maze planner; raises as `read_config`."""
    return read_config(folder, "maze", check_maze)
