"""Load a maze planner from a run folder, a checkpoint or packaged weights."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from unveil.planning.planner_settings import PlannerSettings
from unveil.planning.recipes.config_checks import check_maze
from unveil.runs.checkpoints import with_weights
from unveil.runs.config import read_config

if TYPE_CHECKING:
    import torch

    from unveil.planning.diffuser import Diffuser
    from unveil.planning.path_model import PathModel
    from unveil.planning.planner import Planner
    from unveil.planning.trajectory_model import TrajectoryModel
    from unveil.planning.worlds.maze.layout import Layout


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
    folder: Path, device: str = "auto", seed: int = 0, settings: PlannerSettings | None = None, **fields: Any
) -> Planner:
    """A `Planner` from a run folder, a checkpoint folder or a zoo folder (`loading.py` finds it by name).

    Args:
        settings: how to plan; or `fields` of `PlannerSettings`.
    Raises:
        UnveilError: the checkpoint is of the preset `paper`.
    """
    from unveil.errors import UnveilError
    from unveil.planning.diffuser import Diffuser

    if read_maze_config(folder)["preset"] == "paper":
        raise UnveilError(
            f"{folder} is Diffuser as published (preset paper), which only `unveil eval maze` drives; give "
            "another checkpoint"
        )
    planner = load_driver(folder, device, seed, settings, **fields)
    assert not isinstance(planner, Diffuser)
    return planner


def load_driver(
    folder: Path, device: str = "auto", seed: int = 0, settings: PlannerSettings | None = None, **fields: Any
) -> Planner | Diffuser:
    """The planner of a checkpoint: `Planner`, or `Diffuser` for the preset `paper`, which has no settings.

    Args:
        settings: how to plan; or `fields` of `PlannerSettings`.
    Raises:
        TypeError: a field that there is not, or settings of `Diffuser`.
    """
    from unveil.runs.checkpoints import read_weights
    from unveil.runs.device import find_device

    config = read_maze_config(folder)
    if config["preset"] == "paper" and (settings or fields):
        names = f", got {', '.join(fields)}" if fields else ""
        raise TypeError(f"load: Diffuser as published (preset paper) takes no settings{names}")
    settings = PlannerSettings(**fields) if settings is None else settings
    weights = read_weights(folder, model_of(config).state_dict())
    return driver_of(config, weights, find_device(device), seed, settings)


def published(config: Mapping[str, Any]) -> tuple[tuple[int, ...], bool, Literal["x0", "eps"]]:
    """Multiples, attention and prediction of a temporal U-Net: those of the config, or else the released
    ones."""
    return (
        tuple(config.get("multiples", (1, 4, 8))),
        config.get("attention", False),
        config.get("predicts", "x0"),
    )


def model_of(config: Mapping[str, Any]) -> PathModel | TrajectoryModel:
    """The untrained model of a run's config."""
    from unveil.planning.diffuser import maze_shape
    from unveil.planning.path_model import PathModel, PathModelShape
    from unveil.planning.trajectory_model import TrajectoryModel

    if config["preset"] == "paper":
        return TrajectoryModel(
            maze_shape(config["longest"], config["diffusion_steps"], config["width"], *published(config))
        )
    return PathModel(
        PathModelShape(
            2,
            config["stride"],
            config["patch"],
            config["width"],
            config["depth"],
            config["heads"],
            config["longest"],
        )
    )


def driver_of(
    config: Mapping[str, Any],
    weights: Mapping[str, torch.Tensor],
    device: torch.device,
    seed: int,
    settings: PlannerSettings | None = None,
) -> Planner | Diffuser:
    """The planner of a run's config with these weights, which may be stored in half precision."""
    from unveil.planning.diffuser import Diffuser
    from unveil.planning.planner import Planner
    from unveil.planning.trajectory_model import TrajectoryModel, fast_trajectories

    model = model_of(config)
    with_weights(model, weights, device)
    if isinstance(model, TrajectoryModel):
        return Diffuser(fast_trajectories(model), seed=seed)
    return Planner(model, settings, seed=seed)


def trained_layout(folder: Path) -> Layout:
    """The maze that a checkpoint was trained on."""
    return layout_of(read_maze_config(folder))


def layout_of(config: Mapping[str, Any]) -> Layout:
    """The maze of a run's config."""
    from unveil.planning.worlds.maze.layout import LAYOUTS, Layout

    rows = tuple(config["rows"])
    known = LAYOUTS.get(config["maze"])
    return (
        known
        if known is not None and known.rows == rows
        else Layout(config["maze"], rows, int(config["episode_steps"]))
    )


def read_maze_config(folder: Path) -> dict[str, Any]:
    """The config.json of a maze planner; raises as `read_config`."""
    return read_config(folder, "maze", check_maze)
