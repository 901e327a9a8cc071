"""The planner of an evaluation, of any recipe, as something that decides in an environment."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from unveil.errors import UnveilError
from unveil.files.json_objects import JsonObject
from unveil.planning.recipes.planner.config import SETTINGS

if TYPE_CHECKING:
    from unveil.planning.data.interface import Interface
    from unveil.planning.diffuser import Diffuser
    from unveil.planning.evaluation.environment import Decide
    from unveil.planning.goal_planner import GoalPlanner
    from unveil.planning.guided_planner import GuidedPlanner
    from unveil.planning.planner import Planner
    from unveil.planning.recipes.planner.config import EvalPlanner
    from unveil.planning.worlds.maze.geometry import Geometry
    from unveil.planning.worlds.maze.layout import Layout


class Contestant(NamedTuple):
    """A planner, and what an evaluation needs to know of it.

    Args:
        start: a function that forgets all episodes, and returns the decisions in new ones.
        interface: what observations, goals and actions are.
        observations, actions: sizes of a row.
        described: config.json.
        environment: the environment that suits it; "" if unknown.
        geometry: the coordinates of a planner of mazes; None for other planners.
        maze: its maze, if it is recorded.
    """

    start: Callable[[], Decide]
    interface: Interface
    observations: int
    actions: int
    described: JsonObject
    environment: str
    geometry: Geometry | None = None
    maze: Layout | None = None


def contestant(config: EvalPlanner) -> Contestant:
    """The planner of a checkpoint with the settings of the flags.

    Raises:
        UnveilError: no planner.
    """
    from unveil.planning.recipes.locomotion.pair import folder_at, places_below
    from unveil.runs.checkpoints import find_checkpoint
    from unveil.runs.config import read_recipe

    folder = folder_at(config.checkpoint)
    if places_below(folder):
        return _of_trajectories(config)
    found = read_recipe(find_checkpoint(config.checkpoint))
    if found == "maze":
        return _of_mazes(config)
    raise UnveilError(f"{config.checkpoint} is of recipe {found or 'unknown'!r}, but a planner is needed")


def _of_trajectories(config: EvalPlanner) -> Contestant:
    from unveil.planning.evaluation.environment import planner_decides
    from unveil.planning.recipes.locomotion.clip import body_name
    from unveil.planning.recipes.locomotion.load import load_pair
    from unveil.planning.recipes.locomotion.pair import folder_at, places_below
    from unveil.planning.worlds.locomotion.body import BODIES
    from unveil.planning.worlds.maze.geometry import POINT_MAZE
    from unveil.runs.config import read_recipe, stored_config

    load: Callable[..., GuidedPlanner | GoalPlanner] = load_pair
    planner = load(config.checkpoint, config.job.device, config.job.seed, **_settings(config))
    interface, shape = planner.interface, planner.model.shape
    place = next(it for it in places_below(folder_at(config.checkpoint)) if read_recipe(it) != "value")
    described = stored_config(place if (place / "config.json").is_file() else place.parent)
    body = body_name(str(described.get("dataset") or ""))
    environment = interface.environment or (f"{BODIES[body].title}-v5" if body else "")
    geometry = "d4rl" if interface.environment.startswith("unveil/") else None
    geometry = "point" if interface.environment.startswith(POINT_MAZE) else geometry

    def start() -> Decide:
        planner.reset()
        return planner_decides(planner)

    return Contestant(start, interface, shape.observations, shape.actions, described, environment, geometry)


def _of_mazes(config: EvalPlanner) -> Contestant:
    from unveil.planning.data.interface import Interface
    from unveil.planning.evaluation.environment import driver_decides
    from unveil.planning.recipes.maze.load import layout_of, load_driver, read_maze_config
    from unveil.planning.worlds.maze.registration import TITLES
    from unveil.runs.checkpoints import find_checkpoint

    folder = find_checkpoint(config.checkpoint)
    fields = _settings(config)
    if "sampling_steps" in fields:
        fields["steps"] = fields.pop("sampling_steps")
    load: Callable[..., Planner | Diffuser] = load_driver
    driver = load(folder, config.job.device, config.job.seed, **fields)
    described = read_maze_config(folder)
    layout = layout_of(described)
    environment = f"unveil/Maze2D-{TITLES[layout.name]}-v1" if layout.name in TITLES else ""

    def start() -> Decide:
        return driver_decides(driver)

    own = Interface(goal=(0, 1))
    return Contestant(start, own, 4, 2, described, environment, "d4rl", layout)


def _settings(config: EvalPlanner) -> dict[str, object]:
    """The settings that the flags give, for `load_pair` or `load_driver`."""
    fields: dict[str, object] = {
        name: value for name in SETTINGS if (value := getattr(config, name)) is not None
    }
    if config.scale not in (None, "auto"):
        try:
            fields["scale"] = float(config.scale)
        except ValueError:
            raise ValueError(f"`scale` is a number or auto, got {config.scale!r}") from None
    return fields
