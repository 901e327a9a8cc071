"""The controller that generated D4RL's Maze2D data: q-iteration on the grid, random waypoints, a
proportional-derivative controller.

Source: D4RL, `waypoint_controller.py`, `q_iteration.py`, `gridcraft/grid_env.py`. As published, positions are
rounded to grid cells although they may be up to 0.6 below them, so a route may start in the cell of a wall;
the last waypoint is the integer cell.
"""

from functools import cache
from math import hypot

import numpy as np
from jaxtyping import Int

from unveil.planning.worlds.maze.layout import Layout

MOVES = np.array(
    [[0, 0], [0, -1], [0, 1], [-1, 0], [1, 0]]
)  # no-op, up, down, left, right; the order matters, since argmax takes the first of equal values
GAIN, DAMPING = 10.0, 1.0
SOLVED = 0.1  # distance in cells within which a waypoint is reached
ITERATIONS, DISCOUNT, LONGEST_ROUTE = 50, 0.99, 100


@cache
def greedy_next(walls: tuple[tuple[bool, ...], ...], target: tuple[int, int]) -> Int[np.ndarray, "R C 2"]:
    """For each cell the next cell of the greedy policy after 50 rounds of q-iteration, with reward 1 on the
    target."""
    wall = np.array(walls)
    rows, columns = np.indices(wall.shape)
    here = np.stack([rows, columns], -1)
    there = here[None] + MOVES[:, None, None, :]
    inside = ((there >= 0) & (there < wall.shape)).all(-1)
    clipped = np.clip(there, 0, np.array(wall.shape) - 1)
    legal = inside & ~wall[clipped[..., 0], clipped[..., 1]]
    there = np.where(legal[..., None], there, here[None])
    reward = np.zeros(wall.shape)
    reward[target] = 1.0
    q = np.zeros((len(MOVES), *wall.shape))
    for _ in range(ITERATIONS):
        q = reward + DISCOUNT * q.max(0)[there[..., 0], there[..., 1]]
    best = q.argmax(0)
    return there[best, rows, columns]


class WaypointController:
    """Steer a ball along random waypoints to a target cell.

    force = clip(10 * (waypoint - position) - velocity, -1, 1), with the next waypoint as soon as the ball is
    within 0.1 cells of the last. It plans a new route only when the cell of the target changes. D4RL's
    reference scores use one controller in 100 episodes with one goal, so it never plans again; use a new
    controller for each episode instead.
    """

    def __init__(self, layout: Layout, generator: np.random.Generator) -> None:
        self._walls = tuple(tuple(bool(tile) for tile in row) for row in layout.walls)
        self._generator = generator
        self._target: tuple[int, int] | None = None
        self._route: list[tuple[float, float]] = []
        self._index = 0
        self._previous = (0.0, 0.0)

    def act(
        self, x: float, y: float, vx: float, vy: float, goal: tuple[float, float]
    ) -> tuple[float, float, bool]:
        """The force on each axis, and whether the target is reached (within 0.1 cells, and slower than 0.1
        cells per step)."""
        target = (round(goal[0]), round(goal[1]))
        if target != self._target:
            self._plan((round(x), round(y)), target)
        slow = hypot(self._previous[0] - x, self._previous[1] - y) < SOLVED
        solved = slow and hypot(x - target[0], y - target[1]) < SOLVED
        wx, wy = target if solved else self._route[self._index]
        fx, fy = GAIN * (wx - x) - DAMPING * vx, GAIN * (wy - y) - DAMPING * vy
        if not solved and slow and hypot(x - wx, y - wy) < SOLVED and self._index < len(self._route) - 1:
            self._index += 1
        self._previous = (x, y)
        return min(max(fx, -1.0), 1.0), min(max(fy, -1.0), 1.0), solved

    @property
    def route(self) -> list[tuple[float, float]]:
        """The waypoints to the current target, in order."""
        return list(self._route)

    def _plan(self, start: tuple[int, int], target: tuple[int, int]) -> None:
        following = greedy_next(self._walls, target)
        cell, route = start, []
        for _ in range(LONGEST_ROUTE):
            cell = (int(following[cell][0]), int(following[cell][1]))
            if cell == target:
                break
            dx, dy = self._generator.uniform(0.0, 0.2, 2)
            route.append((cell[0] - dx, cell[1] - dy))
        route.append((float(target[0]), float(target[1])))
        self._target, self._route, self._index = target, route, 0
        self._previous = (float(start[0]), float(start[1]))
