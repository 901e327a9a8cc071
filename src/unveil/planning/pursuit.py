"""Pure pursuit of many planned paths at once: the controller that follows the plans of a path planner.

The timing of a path is ignored: the force pulls towards a point some distance ahead of the nearest point of
the path. The controller knows neither the map nor the physics; its gains and its look-ahead were tuned by
rollouts in the simulator (see docs/protocol.md).
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float

from unveil.planning.path_geometry import arc_lengths, resampled
from unveil.planning.planner_settings import PursuitGains

SPACING = 0.05  # distance between the points of a followed path, in cells
SEARCH = 24  # number of points ahead among which the nearest is searched


class Pursuit:
    """Follow one path for each of B bodies.

    Force within `hold_radius` of the goal: hold_gain * (goal - position) - hold_damping * velocity; elsewhere
    see `PursuitGains`.

    Args:
        goals: (B, 2), positions.
    """

    def __init__(self, goals: Float[np.ndarray, "B 2"], gains: PursuitGains) -> None:
        self.goals, self.gains = goals, gains
        count = len(goals)
        self.points = np.repeat(goals[:, None], 2, axis=1)
        self.last = np.zeros(count, dtype=np.int64)
        self.progress = np.zeros(count, dtype=np.int64)
        self.waited = np.zeros(count, dtype=np.int64)
        self.lost: Bool[np.ndarray, " B"] = np.ones(count, dtype=bool)
        self.gates: list[list[int]] = [[] for _ in range(count)]

    def follow(self, index: int, path: Float[np.ndarray, "H 2"], gates: Sequence[int] = ()) -> None:
        """Let body `index` follow a path from now on, and pass the positions number `gates` in turn before it
        goes on."""
        points = resampled(path, SPACING)
        self.follow_points(index, points, gates_among(points, path, gates))

    def follow_points(self, index: int, points: Float[np.ndarray, "M 2"], gates: Sequence[int] = ()) -> None:
        """Let body `index` follow points that are `SPACING` apart; `gates` are indices of points."""
        self.gates[index] = list(gates)
        if len(points) > self.points.shape[1]:
            self.points = np.pad(
                self.points, ((0, 0), (0, len(points) - self.points.shape[1]), (0, 0)), mode="edge"
            )
        self.points[index, : len(points)] = points
        self.points[index, len(points) :] = points[-1]
        self.last[index] = len(points) - 1
        self.progress[index] = self.waited[index] = 0
        self.lost[index] = False

    def remaining(self, index: int) -> Float[np.ndarray, "M 2"]:
        """The rest of the path of a body, from its nearest point on; at least two points."""
        first = min(int(self.progress[index]), int(self.last[index]) - 1)
        return self.points[index, max(first, 0) : self.last[index] + 1]

    def act(self, observation: Float[np.ndarray, "B 4"]) -> Float[np.ndarray, "B 2"]:
        """Forces in [-1, 1] for (x, y, vx, vy). Bodies that strayed or are stuck are marked in `lost`."""
        position, velocity, g = observation[:, :2], observation[:, 2:], self.gains
        rows = np.arange(len(position))
        for i in range(len(position)):
            while self.gates[i] and np.linalg.norm(self.points[i, self.gates[i][0]] - position[i]) <= g.touch:
                self.gates[i].pop(0)
        limit = np.array(
            [gates[0] if gates else last for gates, last in zip(self.gates, self.last.tolist(), strict=True)]
        )
        near = np.minimum(self.progress[:, None] + np.arange(SEARCH), limit[:, None])
        distance = np.linalg.norm(self.points[rows[:, None], near] - position[:, None], axis=2)
        best = distance.argmin(1)
        moved = near[rows, best] > self.progress
        self.progress = near[rows, best]
        self.waited = np.where(moved, 0, self.waited + 1)
        ahead = np.minimum(self.progress + round(g.look_ahead / SPACING), limit)
        force = g.gain * (self.points[rows, ahead] - position) - g.damping * velocity
        home = (np.linalg.norm(self.goals - position, axis=1) < g.hold_radius) & (limit == self.last)
        hold = g.hold_gain * (self.goals - position) - g.hold_damping * velocity
        self.lost |= ~home & ((distance[rows, best] > g.stray) | (self.waited > g.patience))
        return np.clip(np.where(home[:, None], hold, force), -1.0, 1.0)


def gates_among(
    points: Float[np.ndarray, "M D"], path: Float[np.ndarray, "H D"], gates: Sequence[int]
) -> tuple[int, ...]:
    """The indices, among points evenly spaced along a path, of the path's positions number `gates`."""
    along = arc_lengths(path)
    return tuple(round(float(along[gate] / max(along[-1], 1e-9)) * (len(points) - 1)) for gate in gates)
