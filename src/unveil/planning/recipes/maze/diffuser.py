"""Checkpoints of jannerm/diffuser's branch maze2d, loaded directly or converted to runs with the preset
`paper`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from unveil.errors import UnveilError
from unveil.files.json_objects import JsonObject
from unveil.planning.weights.diffuser_folder import LOADER
from unveil.planning.weights.diffuser_models import ORIGIN

if TYPE_CHECKING:
    import numpy as np

    from unveil.planning.diffuser import Diffuser
    from unveil.planning.trajectory_model import TrajectoryModel
    from unveil.planning.weights.diffuser import Original
    from unveil.planning.worlds.maze.layout import Layout

PREFIX, SUFFIX = "maze2d-", "-v1"


def layout_of_original(original: Original) -> Layout:
    """The maze of an experiment.

    Raises:
        UnveilError: an unknown maze, or other observations and actions than positions, velocities and forces.
    """
    from unveil.planning.worlds.maze.layout import LAYOUTS

    it, dataset = original, original.dataset or ""
    name = dataset.removeprefix(PREFIX).removesuffix(SUFFIX).replace("dense-", "").removesuffix("-dense")
    if name not in LAYOUTS:
        raise UnveilError(
            f"an original that plans to goals, in {it.dataset or 'an unknown world'}; known: "
            "maze2d-umaze-v1 and others"
        )
    if (it.actions, it.observations, it.kind) != (2, 4, "diffusion") or it.width % 8:
        raise UnveilError(
            f"an original of {it.actions} actions and {it.observations} observations is no planner of "
            "mazes, which has 2 and 4"
        )
    return LAYOUTS[name]


def maze_config(original: Original, normalized: bool) -> JsonObject:
    """The config.json of an experiment, as of a run with the preset `paper`.

    Raises:
        UnveilError: as `layout_of_original`.
    """
    from unveil.planning.recipes.maze.config import TRAIN_PRESETS
    from unveil.runs.training import as_json

    it, paper, layout = original, TRAIN_PRESETS["paper"], layout_of_original(original)
    world = {"maze": layout.name, "rows": layout.rows, "episode_steps": layout.steps, "data": it.dataset}
    kept = ("diffusion_steps", "width", "multiples", "attention", "predicts", "loader", "normalizer")
    network = {name: getattr(it, name) for name in kept} | {"longest": it.horizon}
    unused = {name: getattr(paper, name) for name in ("depth", "stride", "patch")}
    unused["heads"] = paper.heads if it.width % (2 * paper.heads) == 0 else 1
    origin = {"recipe": "maze", "preset": "paper", "normalized": normalized, "origin": ORIGIN}
    return as_json(origin | world | network | unused)


def read_original_maze(
    folder: Path, epoch: str | int = "latest", raw: bool = False
) -> tuple[TrajectoryModel, Original]:
    """Read the one experiment in a folder.

    Args:
        epoch: epoch number, or latest.
        raw: whether to use the weights without averaging.
    Raises:
        UnveilError: no experiment or several, or one that does not plan to goals.
    """
    from unveil.planning.trajectory_model import TrajectoryModel
    from unveil.planning.weights.diffuser_models import read_original

    model, original = read_original(folder, str(epoch), not raw)
    if original.loader != LOADER:
        raise UnveilError(
            f"{folder}: an original of {original.dataset or 'an unknown world'} that does not plan to "
            "goals; only mazes are supported here"
        )
    layout_of_original(original)
    assert isinstance(model, TrajectoryModel)
    return model, original


def driver_of(
    model: TrajectoryModel, original: Original, device: str, seed: int, dataset: str | None
) -> Diffuser:
    """The published planner with the weights of an experiment.

    Args:
        dataset: the data from which its normaliser takes statistics; without them it plans in normalised
            units.
    Raises:
        UnveilError: data that cannot be read.
    """
    from unveil.planning.diffuser import Diffuser
    from unveil.planning.trajectory_model import fast_trajectories
    from unveil.planning.weights.diffuser_models import learn_normalization
    from unveil.runs.device import find_device

    if dataset is not None:
        learn_normalization(model, original, maze_rows(original, dataset))
    return Diffuser(fast_trajectories(model.to(find_device(device))), seed=seed)


def maze_rows(original: Original, dataset: str) -> np.ndarray:
    """Rows (N, 6) of (action, observation) from which Diffuser takes its statistics.

    `maze2d_set_terminals` ends an episode where the maze's goal is left. The steps after the last such step
    are dropped, and so is the last step of every episode, which has no next observation.
    """
    import numpy as np

    from unveil.planning.data.source import read_episodes
    from unveil.planning.recipes.maze.paper import between_goals

    episodes = read_episodes(dataset)
    if episodes.observations.shape[1] < 4 or episodes.actions.shape[1] != 2:
        raise UnveilError(f"{dataset}: needed are observations (x, y, vx, vy) and actions of 2 numbers")
    cut = between_goals(episodes, layout_of_original(original).goal)
    ends = np.flatnonzero(cut.timeouts)
    if not len(ends):
        raise UnveilError(
            f"{dataset}: the goal of {original.dataset} is never left in it, so it has no episodes; is it "
            "of another maze?"
        )
    keep = np.arange(int(ends[-1]) + 1)
    keep = keep[~np.isin(keep, ends)]
    return np.concatenate([cut.actions[keep], cut.observations[keep]], axis=1, dtype=np.float32)
