"""D4RL's Maze2D and gymnasium-robotics' PointMaze: the same mazes and the same ball in other coordinates.

D4RL's position (x, y) is (row, column), and (i, j) is 0.2 off the centre of cell (i, j) (`layout`). PointMaze
has its origin in the middle of the map, x to the right and y upwards, and a cell's centre is its position:

    row = R / 2 - y_P - 1/2 - 0.2,  column = x_P + C / 2 - 1/2 - 0.2        (R rows, C columns)
    (v_row, v_column) = (-v_y, v_x),  and so for forces

Source: gymnasium-robotics 1.4, `envs/maze/maze_v4.py` (`cell_rowcol_to_xy`). Its goals and starts are drawn
within 0.25 of a cell's centre (D4RL: 0.1), its ball starts at rest, and its goal has the radius 0.45 (D4RL:
0.5), so scores are similar, but not the same.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Literal

import gymnasium
import numpy as np
from gymnasium.spaces import Box, Dict
from jaxtyping import Float

from unveil.errors import UnveilError
from unveil.planning.data.episodes import Episodes
from unveil.planning.data.fields import ACHIEVED
from unveil.planning.worlds.maze.env import picture
from unveil.planning.worlds.maze.layout import BODY_OFFSET, LAYOUTS, Layout

POINT_MAZE = "PointMaze"  # ids of gymnasium-robotics begin with it
Geometry = Literal["d4rl", "point"]


def turned(vectors: Float[np.ndarray, "*B 2"]) -> Float[np.ndarray, "*B 2"]:
    """PointMaze's velocities or forces (x, y) in D4RL's axes (row, column)."""
    return np.stack([-vectors[..., 1], vectors[..., 0]], axis=-1)


def turned_back(vectors: Float[np.ndarray, "*B 2"]) -> Float[np.ndarray, "*B 2"]:
    """D4RL's velocities or forces (row, column) in PointMaze's axes (x, y)."""
    return np.stack([vectors[..., 1], -vectors[..., 0]], axis=-1)


def _middle(layout: Layout) -> np.ndarray:
    return np.array(layout.walls.shape) / 2.0 - 0.5 - BODY_OFFSET


def to_d4rl(rows: Float[np.ndarray, "*B D"], layout: Layout) -> Float[np.ndarray, "*B D"]:
    """PointMaze's positions (x, y), or observations (x, y, vx, vy), in D4RL's coordinates."""
    position = turned(rows[..., :2]) + _middle(layout)
    return np.concatenate([position, turned(rows[..., 2:])], axis=-1) if rows.shape[-1] > 2 else position


def to_point(rows: Float[np.ndarray, "*B D"], layout: Layout) -> Float[np.ndarray, "*B D"]:
    """D4RL's positions (x, y), or observations (x, y, vx, vy), in PointMaze's coordinates."""
    position = turned_back(rows[..., :2] - _middle(layout))
    return np.concatenate([position, turned_back(rows[..., 2:])], axis=-1) if rows.shape[-1] > 2 else position


def episodes_in_d4rl(episodes: Episodes, layout: Layout) -> Episodes:
    """Recordings of PointMaze in D4RL's coordinates: observations (x, y, vx, vy), goals and forces."""
    infos = {
        name: to_d4rl(value, layout) if name in ("goal", ACHIEVED) else value
        for name, value in episodes.infos.items()
    }
    final = episodes.final_observations
    return replace(
        episodes,
        observations=to_d4rl(episodes.observations[:, :4], layout),
        actions=turned(episodes.actions),
        final_observations=None if final is None else to_d4rl(final[:, :4], layout),
        infos=infos,
    )


def layout_in(env: gymnasium.Env[Any, Any], name: str) -> Layout:
    """The layout of an environment of PointMaze, or of unveil's mazes.

    Raises:
        UnveilError: the environment has no map.
    """
    inside = env.unwrapped
    own = getattr(inside, "layout", None)
    if isinstance(own, Layout):
        return own
    maze = getattr(inside, "maze", None)
    if maze is None or float(getattr(maze, "maze_size_scaling", 0.0)) != 1.0:
        raise UnveilError(f"{name} is no maze of cells of size 1, as PointMaze's are")
    rows = tuple("".join("#" if tile == 1 else "O" for tile in row) for row in maze.maze_map)
    for layout in LAYOUTS.values():
        if tuple(row.replace("G", "O") for row in layout.rows) == rows:
            return layout
    return Layout(name, rows, 800)


def adapted(
    make: Callable[..., Any], name: str, geometry: Geometry, maze: Layout | None
) -> Callable[..., Any]:
    """A function that makes an environment as a planner of mazes knows it.

    Args:
        make: makes the environment.
        name: for messages.
        geometry: whether the planner knows the coordinates of D4RL or of PointMaze.
        maze: the maze of the planner; None if it is not recorded.
    Returns:
        `make` itself for environments of the planner's own geometry, and for those that are no mazes.
    """

    def made(**more: object) -> gymnasium.Env[Any, Any]:
        env = make(**more)
        point = hasattr(env.unwrapped, "maze") and isinstance(env.observation_space, Dict)
        if not point and not hasattr(env.unwrapped, "layout"):
            return env
        layout = layout_in(env, name)
        if maze is not None and not np.array_equal(maze.walls, layout.walls):
            raise UnveilError(
                f"{name} is the maze {layout.name!r}, but the planner was trained on {maze.name!r}"
            )
        if point and geometry == "d4rl":
            return InD4RL(env, layout)
        return InPointMaze(env, layout) if not point and geometry == "point" else env

    return made


class InD4RL(gymnasium.Env[np.ndarray, np.ndarray]):
    """An environment of PointMaze as D4RL's planners know it: observations (x, y, vx, vy) and forces in
    D4RL's coordinates, and the goal in `info`."""

    metadata: dict[str, Any] = {}  # noqa: RUF012 (gymnasium declares it so)

    def __init__(self, env: gymnasium.Env[Any, Any], layout: Layout) -> None:
        self.env, self.layout = env, layout
        self.observation_space = Box(-np.inf, np.inf, (4,), np.float64)
        self.action_space = Box(-1.0, 1.0, (2,), np.float32)
        self.metadata, self.spec, self.render_mode = env.metadata, env.spec, env.render_mode
        self._position, self._goal = np.zeros(2), np.zeros(2)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Start an episode."""
        return self._seen(*self.env.reset(seed=seed, options=options))

    def step(self, action: np.ndarray) -> tuple[np.ndarray, Any, bool, bool, dict[str, Any]]:
        """Apply a force (row, column)."""
        force = turned_back(np.asarray(action, np.float64)).astype(np.float32)
        observation, reward, ended, cut, info = self.env.step(force)
        seen, info = self._seen(observation, info)
        return seen, reward, ended, cut, info

    def render(self) -> Any:
        """The maze from above, which needs no OpenGL."""
        return picture(self.layout, self._position, self._goal)

    def close(self) -> None:
        """Free the environment."""
        self.env.close()

    def _seen(self, seen: Mapping[str, Any], info: Mapping[str, Any]) -> tuple[np.ndarray, dict[str, Any]]:
        rows = to_d4rl(np.asarray(seen["observation"], np.float64), self.layout)
        self._position = rows[:2]
        self._goal = to_d4rl(np.asarray(seen["desired_goal"], np.float64), self.layout)
        return rows, {**info, "goal": self._goal.copy()}


class InPointMaze(gymnasium.Env[Any, np.ndarray]):
    """One of unveil's mazes, of D4RL's geometry, as planners trained on PointMaze know it: dictionary
    observations and forces in PointMaze's coordinates."""

    metadata: dict[str, Any] = {}  # noqa: RUF012 (gymnasium declares it so)

    def __init__(self, env: gymnasium.Env[Any, Any], layout: Layout) -> None:
        self.env, self.layout = env, layout
        sizes = {"observation": 4, "achieved_goal": 2, "desired_goal": 2}
        self.observation_space = Dict(
            {name: Box(-np.inf, np.inf, (n,), np.float64) for name, n in sizes.items()}
        )
        self.action_space = Box(-1.0, 1.0, (2,), np.float32)
        self.metadata, self.spec, self.render_mode = env.metadata, env.spec, env.render_mode

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """Start an episode."""
        observation, info = self.env.reset(seed=seed, options=options)
        return self._seen(observation, info), info

    def step(self, action: np.ndarray) -> tuple[dict[str, np.ndarray], Any, bool, bool, dict[str, Any]]:
        """Apply a force (x, y)."""
        observation, reward, ended, cut, info = self.env.step(turned(np.asarray(action, np.float64)))
        return self._seen(observation, info), reward, ended, cut, info

    def render(self) -> Any:
        """The picture of the environment."""
        return self.env.render()

    def close(self) -> None:
        """Free the environment."""
        self.env.close()

    def _seen(self, observation: np.ndarray, info: Mapping[str, Any]) -> dict[str, np.ndarray]:
        rows = to_point(np.asarray(observation, np.float64), self.layout)
        goal = to_point(np.asarray(info["goal"], np.float64), self.layout)
        return {"observation": rows, "achieved_goal": rows[:2].copy(), "desired_goal": goal}
