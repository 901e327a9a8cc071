"""References of the maze table: the controller that made the data, and a shortest-path oracle. Both know the
map."""

from collections.abc import Callable
from dataclasses import dataclass
from time import perf_counter

import numpy as np
from jaxtyping import Float
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import dijkstra

from unveil.planning.evaluation.maze import MazeRollout, roll
from unveil.planning.pursuit import Pursuit, PursuitGains
from unveil.planning.worlds.maze.controller import WaypointController, greedy_next
from unveil.planning.worlds.maze.episodes import MazeEpisodes
from unveil.planning.worlds.maze.layout import BALL_RADIUS, BODY_OFFSET, Layout


@dataclass(frozen=True)
class Reference:
    """The rollout of a reference, its planned paths, and the wall time of its decisions.

    Args:
        rollout: the episodes.
        paths: the planned polyline of each episode, from its start.
        plan_seconds: wall time of each plan.
        act_seconds: wall times of single decisions for one body.
        replans: number of plans that replaced another, in all episodes.
    """

    rollout: MazeRollout
    paths: list[np.ndarray]
    plan_seconds: list[float]
    act_seconds: list[float]
    replans: int = 0


def controller_reference(world: MazeEpisodes, seed: int) -> Reference:
    """D4RL's data controller without action noise; a new one with the seed (seed, i) for each episode i."""
    goals = [(float(x), float(y)) for x, y in world.goal]
    planned: list[float] = []
    for (x, y, vx, vy), goal in zip(world.state.tolist(), goals, strict=True):
        greedy_next.cache_clear()
        began = perf_counter()
        WaypointController(world.layout, np.random.default_rng(seed)).act(
            x, y, vx, vy, goal
        )  # measures the wall time of planning alone
        planned.append(perf_counter() - began)
    controllers = [
        WaypointController(world.layout, np.random.default_rng([seed, i])) for i in range(world.count)
    ]
    spent: list[float] = []

    def act(seen: np.ndarray) -> np.ndarray:
        began = perf_counter()
        moves = zip(controllers, seen.tolist(), goals, strict=True)
        force = np.array([c.act(x, y, vx, vy, goal)[:2] for c, (x, y, vx, vy), goal in moves])
        spent.append((perf_counter() - began) / world.count)
        return force

    starts = world.state[:, :2].copy()
    rollout = roll(world, act)
    paths = [np.array([start, *c.route]) for start, c in zip(starts, controllers, strict=True)]
    return Reference(rollout, paths, planned, spent)


def oracle_reference(world: MazeEpisodes, gains: PursuitGains | None = None) -> Reference:
    """The planner's controller on shortest paths through the map: the result of perfect plans."""
    return pursued(world, ShortestPaths(world.layout).path, gains)


def pursued(
    world: MazeEpisodes,
    path_of: Callable[[np.ndarray, np.ndarray], np.ndarray],
    gains: PursuitGains | None = None,
) -> Reference:
    """The planner's controller on paths of any source. It plans once per episode, and again after straying or
    sticking, like the planner.

    Args:
        path_of: (start (2,), goal (2,)) -> path (H, 2).
        gains: gains of the controller.
    """
    paths: list[np.ndarray] = []
    planned: list[float] = []
    for state, goal in zip(world.state, world.goal, strict=True):
        began = perf_counter()
        paths.append(path_of(state[:2], goal))
        planned.append(perf_counter() - began)
    pursuit = Pursuit(world.goal, gains or PursuitGains())
    for i, path in enumerate(paths):
        pursuit.follow(i, path)
    single = Pursuit(world.goal[:1], gains or PursuitGains())
    single.follow(0, paths[0])
    spent: list[float] = []
    replanned: list[int] = []

    def act(seen: np.ndarray) -> np.ndarray:
        for i in np.flatnonzero(pursuit.lost):
            pursuit.follow(int(i), path_of(seen[i, :2], world.goal[i]))
            replanned.append(int(i))
        began = perf_counter()
        single.act(seen[:1])
        spent.append(perf_counter() - began)
        return pursuit.act(seen)

    return Reference(roll(world, act), paths, planned, spent, len(replanned))


class ShortestPaths:
    """Shortest collision-free paths of the ball's centre on a grid of 0.1 cells with 16 directions."""

    def __init__(self, layout: Layout, spacing: float = 0.1, margin: float = 0.01) -> None:
        shape = (np.array(layout.walls.shape) / spacing).astype(int)
        nodes = np.stack(np.meshgrid(*[np.arange(n) for n in shape], indexing="ij"), -1)
        self.points = nodes * spacing - 0.5 - BODY_OFFSET
        self.free = layout.clearance(self.points) >= BALL_RADIUS + margin
        index = np.arange(self.free.size).reshape(self.free.shape)
        rows, columns, lengths = [], [], []
        for di, dj in ((0, 1), (1, 0), (1, 1), (1, -1), (1, 2), (2, 1), (1, -2), (2, -1)):
            a = tuple(slice(max(0, -d), n - max(0, d)) for d, n in zip((di, dj), shape, strict=True))
            b = tuple(slice(max(0, d), n - max(0, -d)) for d, n in zip((di, dj), shape, strict=True))
            middle = layout.clearance(0.5 * (self.points[a] + self.points[b])) >= BALL_RADIUS + margin
            open_ = self.free[a] & self.free[b] & middle
            rows.append(index[a][open_])
            columns.append(index[b][open_])
            lengths.append(np.full(int(open_.sum()), spacing * np.hypot(di, dj)))
        size = self.free.size
        self._graph = coo_matrix(
            (np.concatenate(lengths), (np.concatenate(rows), np.concatenate(columns))), (size, size)
        ).tocsr()

    def path(self, start: Float[np.ndarray, "2"], goal: Float[np.ndarray, "2"]) -> Float[np.ndarray, "H 2"]:
        """The shortest path from start to goal, with both ends.

        Raises:
            ValueError: there is none.
        """
        source, target = self._nearest(goal), self._nearest(start)
        _, before = dijkstra(self._graph, directed=False, indices=source, return_predecessors=True)
        flat = self.points.reshape(-1, 2)
        if before[target] < 0 and source != target:
            raise ValueError(f"no way leads from {start.tolist()} to {goal.tolist()}")
        path = [start, flat[target]]
        while target != source:
            target = int(before[target])
            path.append(flat[target])
        return np.array([*path, goal])

    def _nearest(self, point: np.ndarray) -> int:
        distance = np.linalg.norm(self.points - point, axis=-1)
        return int(np.where(self.free, distance, np.inf).argmin())
