"""Drive a body along the plan of a planner, in the simulator of the maze."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import numpy as np
    from jaxtyping import Float

    from unveil.planning.plan_request import Via
    from unveil.planning.planner import Planner
    from unveil.planning.worlds.maze.layout import Layout

AFTER = 60  # environment steps that are shown after the arrival


class Drive(NamedTuple):
    """One body driven from start to goal.

    Args:
        track: (T + 1, 2), its positions in cells, one per environment step of 0.01 s.
        arrival: steps until it was within 0.5 cells of the goal with all waypoints passed; None: it was not.
        replans: number of plans after the first one.
    """

    track: Float[np.ndarray, "T 2"]
    arrival: int | None
    replans: int


def drive(
    layout: Layout,
    planner: Planner,
    start: Float[np.ndarray, "2"],
    goal: Float[np.ndarray, "2"],
    via: Sequence[Via] = (),
    on_step: Callable[[int], object] | None = None,
) -> Drive:
    """Drive a body from rest at `start`. With a planner that has not driven yet, the first plan is the one of
    the first call of `plan`, without `horizon`, of another planner of the same settings and seed.

    Args:
        via: waypoints, as in `Planner.plan`.
        on_step: called with the number of steps so far.
    """
    import numpy as np

    from unveil.planning.worlds.maze.episodes import MazeEpisodes

    world = MazeEpisodes(layout, 1)
    world.state, world.goal = np.array([[*start, 0.0, 0.0]]), goal[None].astype(np.float64)
    planner.reset(goal, via)
    track, left = [start.astype(np.float64)], [np.asarray(point) for _, point in via]
    arrival: int | None = None
    for step in range(1, layout.steps * (1 + len(via)) + 1):
        state, reward = world.step(planner.act(world.state[0])[None])
        position = state[0, :2]
        track.append(position.copy())
        if left and np.linalg.norm(left[0] - position) <= planner.settings.gains.touch:
            left.pop(0)
        if arrival is None and not left and reward[0]:
            arrival = step
        if on_step is not None:
            on_step(step)
        if arrival is not None and step >= arrival + AFTER:
            break
    return Drive(np.array(track), arrival, planner.replans)
