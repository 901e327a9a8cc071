"""Pure pursuit of many planned paths at once: the executor of a path planner.

A path's own timing is ignored: the force pulls towards a point some way ahead of the nearest one. It knows neither the map nor the
physics; gains and look-ahead were tuned by rollout in the simulator (the docs' protocol says so).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from unveil.checks import number, whole
from unveil.planning.path_geometry import resampled

SPACING = 0.05  # between the points of a followed path, in position units
SEARCH = 24  # points ahead among which the nearest is sought


@dataclass(frozen=True)
class PursuitGains:
    """force = gain * (target - position) - damping * velocity; within `hold_radius` of the goal hold_gain and hold_damping instead.

    Args:
        look_ahead: distance along the path from the nearest point to the target.
        stray: distance from the path beyond which it is given up.
        patience: steps without progress after which it is given up.
        touch: a waypoint counts as passed within this distance of it.
    """

    gain: float = 12.5
    damping: float = 1.2
    look_ahead: float = 0.95
    hold_gain: float = 10.0
    hold_damping: float = 1.0
    hold_radius: float = 0.5
    stray: float = 0.6
    patience: int = 30
    touch: float = 0.2

    def __post_init__(self) -> None:
        for name in (
            "gain",
            "damping",
            "look_ahead",
            "hold_gain",
            "hold_damping",
            "hold_radius",
            "stray",
            "touch",
        ):
            number(f"PursuitGains: {name}", getattr(self, name), 0.0)
        whole("PursuitGains: patience", self.patience)


class Pursuit:
    """Follows one path for each of B bodies."""

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
        """From now on body `index` follows this path, and touches its positions number `gates` in turn before it goes on."""
        points = resampled(path, SPACING)
        along = np.concatenate([[0.0], np.linalg.norm(np.diff(path, axis=0), axis=1).cumsum()])
        self.gates[index] = [
            round(float(along[gate] / max(along[-1], 1e-9)) * (len(points) - 1)) for gate in gates
        ]
        if len(points) > self.points.shape[1]:
            self.points = np.pad(
                self.points, ((0, 0), (0, len(points) - self.points.shape[1]), (0, 0)), mode="edge"
            )
        self.points[index, : len(points)] = points
        self.points[index, len(points) :] = points[-1]
        self.last[index], self.progress[index], self.waited[index], self.lost[index] = (
            len(points) - 1,
            0,
            0,
            False,
        )

    def remaining(self, index: int) -> Float[np.ndarray, "M 2"]:
        """The rest of a body's path, from its nearest point on; at least two points."""
        first = min(int(self.progress[index]), int(self.last[index]) - 1)
        return self.points[index, max(first, 0) : self.last[index] + 1]

    def act(self, observation: Float[np.ndarray, "B 4"]) -> Float[np.ndarray, "B 2"]:
        """Forces in [-1, 1] for (x, y, vx, vy); bodies that strayed or are stuck are marked in `lost`."""
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
