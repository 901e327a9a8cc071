"""Whether a path holds planners of another program."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from unveil.planning.recipes.convert import convert_diffuser, inspect_diffuser
from unveil.runs.recognised import Reading, Recognised

if TYPE_CHECKING:
    from unveil.planning.diffuser import Diffuser
    from unveil.planning.goal_planner import GoalPlanner
    from unveil.planning.guided_planner import GuidedPlanner
    from unveil.planning.trajectory_model import TrajectoryModel
    from unveil.planning.weights.diffuser import Original


def recognise(path: Path) -> Recognised | None:
    """Experiments of jannerm/diffuser at or below a folder; None for anything else."""
    from unveil.planning.recipes.locomotion.load import load_pair
    from unveil.planning.recipes.maze.diffuser import driver_of, read_original_maze
    from unveil.planning.weights.diffuser_folder import is_maze, is_original

    if not path.is_dir() or not is_original(path):
        return None

    read: Callable[..., tuple[TrajectoryModel, Original]] = read_original_maze
    pair: Callable[..., GuidedPlanner | GoalPlanner] = load_pair

    def load_maze(device: str, seed: int, dataset: str | None = None, **reading: object) -> Diffuser:
        return driver_of(*read(path, **reading), device, seed, dataset)

    maze: Callable[..., Diffuser] = load_maze

    def load(device: str, seed: int, **settings: object) -> Diffuser | GuidedPlanner | GoalPlanner:
        return maze(device, seed, **settings) if is_maze(path) else pair(str(path), device, seed, **settings)

    def inspect(reading: Reading) -> str:
        return inspect_diffuser(path, reading.epoch)

    def convert(out: Path, reading: Reading) -> str:
        return convert_diffuser(path, out, reading.epoch, reading.raw, reading.dataset)

    return Recognised(load, inspect, convert)
