"""Maze2D as a gymnasium environment, with D4RL's reset and reward, and a small picture."""

import gymnasium
import numpy as np
from gymnasium.error import ResetNeeded
from gymnasium.spaces import Box
from jaxtyping import Float, UInt8

from unveil.planning.worlds.maze.episodes import MazeEpisodes, goal_reward
from unveil.planning.worlds.maze.layout import BALL_RADIUS, BODY_OFFSET, GOAL_RADIUS, Layout, named_layout

CELL = 24  # pixels
FLOOR, WALL, GOAL, BALL = (246, 244, 238), (57, 65, 90), (231, 111, 81), (38, 70, 83)


class MazeEnv(gymnasium.Env[np.ndarray, np.ndarray]):
    """One ball in one maze.

    Observation (4,): x, y, vx, vy, in cells and cells per second; x is the row, y the column. Action (2,):
    the force on each axis, clipped to [-1, 1]. The reward is 1 for **every** step that ends within 0.5 cells
    of the goal, else 0; it is not latched. An episode does not terminate; `gymnasium.make` truncates it after
    the steps of the layout (`registration`), but a `MazeEnv` made directly does not. `info` contains a copy
    of the `goal` (2,), and `success`: whether the ball is within 0.5 cells of the goal.

    Args:
        maze: the name of a layout, or a layout of your own (`parse_layout` reads one from text).
        multi: Multi2D, a random goal in each episode.
        render_mode: None, or "rgb_array" for pictures from `render`.
    Raises:
        ValueError: an unknown maze or render mode.
    """

    metadata: dict[str, object] = {"render_modes": ["rgb_array"], "render_fps": 100}  # noqa: RUF012 (gymnasium declares it so)

    def __init__(
        self, maze: str | Layout = "large", multi: bool = False, render_mode: str | None = None
    ) -> None:
        if render_mode not in (None, "rgb_array"):
            raise ValueError(f"render_mode must be None or 'rgb_array', got {render_mode!r}")
        self.layout = maze if isinstance(maze, Layout) else named_layout(maze)
        self.multi = multi
        self.render_mode = render_mode
        self.observation_space = Box(-np.inf, np.inf, (4,), np.float64)
        self.action_space = Box(-1.0, 1.0, (2,), np.float32)
        self._episode = MazeEpisodes(self.layout, 1)
        self._started = False

    def reset(
        self, *, seed: int | None = None, options: dict[str, object] | None = None
    ) -> tuple[Float[np.ndarray, "4"], dict[str, object]]:
        """Start an episode: a random free cell, a velocity from N(0, 0.1^2), the goal of the task.

        Args:
            seed: seed of the random numbers.
            options: `start` and `goal`, two numbers each, replace the drawn positions; the velocity is drawn.
        Raises:
            ValueError: another option, or a position that is not two finite numbers in free space.
        """
        super().reset(seed=seed)
        options = options or {}
        if unknown := sorted(map(str, set(options) - {"start", "goal"})):
            raise ValueError(f"reset: unknown options {unknown}; 'start' and 'goal' are known")
        chosen = {name: free_position(self.layout, value, name) for name, value in options.items()}
        self._episode.reset(self.np_random, self.multi)
        if "start" in chosen:
            self._episode.state[0, :2] = chosen["start"]
        if "goal" in chosen:
            self._episode.goal[0] = chosen["goal"]
        self._started = True
        return self._episode.state[0].copy(), self._info()

    def step(self, action: np.ndarray) -> tuple[Float[np.ndarray, "4"], float, bool, bool, dict[str, object]]:
        """Apply a force for 0.01 s.

        Raises:
            ResetNeeded: no `reset` yet.
            ValueError: the action is not two finite numbers.
        """
        if not self._started:
            raise ResetNeeded("step: call reset() before the first step")
        force = np.asarray(action, dtype=np.float64)
        if force.shape != (2,):
            raise ValueError(f"step: an action of shape (2,) is needed, got shape {force.shape}")
        observations, rewards = self._episode.step(force[None])
        return observations[0], float(rewards[0]), False, False, self._info()

    def render(self) -> UInt8[np.ndarray, "H W 3"]:
        """The maze from above, with 24 pixels per cell. Rows run down and columns to the right; the disc is
        the region of reward 1.

        Raises:
            ValueError: the environment was made without `render_mode="rgb_array"`.
            ResetNeeded: no `reset` yet.
        """
        if self.render_mode is None:
            raise ValueError(
                "render: this environment draws no pictures; make it with render_mode='rgb_array'"
            )
        if not self._started:
            raise ResetNeeded("render: call reset() before the first picture")
        return picture(self.layout, self._episode.state[0, :2], self._episode.goal[0])

    def _info(self) -> dict[str, object]:
        state, goal = self._episode.state[0], self._episode.goal[0]
        return {"goal": goal.copy(), "success": bool(goal_reward(state[:2], goal))}


def free_position(layout: Layout, value: object, name: str) -> Float[np.ndarray, "2"]:
    """A position of two finite numbers outside of walls.

    Raises:
        ValueError: anything else.
    """
    try:
        position = np.array(value, dtype=np.float64)
    except (TypeError, ValueError):
        raise ValueError(f"{name}: two numbers (x, y) are needed, got {value!r}") from None
    if position.shape != (2,) or not np.isfinite(position).all():
        raise ValueError(f"{name}: two finite numbers (x, y) are needed, got {value!r}")
    if layout.clearance(position) <= 0:
        raise ValueError(f"{name} {value!r} lies inside a wall of maze {layout.name!r} or outside it")
    return position


def picture(
    layout: Layout, position: Float[np.ndarray, "2"], goal: Float[np.ndarray, "2"]
) -> UInt8[np.ndarray, "H W 3"]:
    """A picture of walls, goal and ball from above."""
    wall = layout.walls.repeat(CELL, axis=0).repeat(CELL, axis=1)
    x, y = ((np.arange(length) + 0.5) / CELL - 0.5 - BODY_OFFSET for length in wall.shape)

    def near(centre: np.ndarray, radius: float) -> np.ndarray:
        return np.hypot(x[:, None] - centre[0], y - centre[1]) <= radius

    image = np.where(wall[..., None], WALL, FLOOR)
    disc = near(goal, GOAL_RADIUS)
    image[disc] = (image[disc] + GOAL) // 2
    image[near(position, BALL_RADIUS)] = BALL
    return image.astype(np.uint8)
