"""Block stacking as a gymnasium environment."""

from typing import Any

import gymnasium
import numpy as np
from gymnasium.error import ResetNeeded
from gymnasium.spaces import Box
from jaxtyping import Float, UInt8

from unveil.planning.data.stacking_states import SIZE, cube_positions
from unveil.planning.worlds.stacking.scene import JOINTS, LIMITS
from unveil.planning.worlds.stacking.tasks import TASKS, Goal, Task, first_poses, random_goal, reward
from unveil.planning.worlds.stacking.world import Commands, StackingWorld

STEPS = 384
"""Of an episode, as published: three plans of 128 states."""


class StackingEnv(gymnasium.Env[np.ndarray, np.ndarray]):
    """A Kuka arm with a suction cup, and four cubes on a circle around it.

    Observation (39,): the state (`unveil.planning.data.stacking_states`). Action (8,): angles of the joints
    in rad, clipped to their limits, and suction, on if positive; an action lasts 0.08 s. The reward of a step
    is by how much it changes the task's (`tasks.reward`), so that rewards add up to that of the last state,
    at most 3. An episode does not terminate; `gymnasium.make` truncates it after 384 steps. `info`: `pairs`,
    what shall stand on what, (K, 2); `success`: all of it does, or all cubes are one stack; `held`: the cube
    that the cup holds, or -1; `clipped`: commanded angles so far that were outside of the limits.

    Args:
        task: unconditional, conditional or rearrangement.
        render_mode: None, or "rgb_array" for pictures from `render`.
    Raises:
        ValueError: an unknown task or render mode.
    """

    metadata: dict[str, object] = {"render_modes": ["rgb_array"], "render_fps": 12}  # noqa: RUF012 (gymnasium declares it so)

    def __init__(self, task: str = "unconditional", render_mode: str | None = None) -> None:
        if task not in TASKS:
            raise ValueError(f"task must be one of {', '.join(TASKS)}, got {task!r}")
        if render_mode not in (None, "rgb_array"):
            raise ValueError(f"render_mode must be None or 'rgb_array', got {render_mode!r}")
        self.task: Task = next(it for it in TASKS if it == task)
        self.render_mode = render_mode
        most = np.array([*LIMITS, 1.0])
        self.action_space = Box(-most, most, dtype=np.float64)
        self.observation_space = Box(-np.inf, np.inf, (SIZE,), np.float64)
        self._world = StackingWorld()
        self._goal: Goal | None = None
        self._first = np.zeros((4, 3))
        self._reward = 0.0

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Float[np.ndarray, "39"], dict[str, Any]]:
        """Start an episode of the task.

        Args:
            options: `goal`, a `tasks.Goal` in place of a random one.
        Raises:
            ValueError: another option.
        """
        super().reset(seed=seed)
        options = options or {}
        if unknown := sorted(map(str, set(options) - {"goal"})):
            raise ValueError(f"reset: unknown options {unknown}; 'goal' is known")
        goal: Goal = options.get("goal") or random_goal(self.task, self.np_random)
        self._goal = goal
        state = self._world.reset(first_poses(goal, self.np_random))
        self._first, self._reward = cube_positions(state), 0.0
        return state, self._info(state)

    def step(self, action: np.ndarray) -> tuple[Float[np.ndarray, "39"], float, bool, bool, dict[str, Any]]:
        """Follow an action for 0.08 s.

        Raises:
            ResetNeeded: no `reset` yet.
            ValueError: the action is not eight finite numbers.
        """
        if self._goal is None:
            raise ResetNeeded("step: call reset() before the first step")
        action = np.asarray(action, np.float64)
        if action.shape != (JOINTS + 1,) or not np.isfinite(action).all():
            raise ValueError(f"step: an action of eight finite numbers is needed, got {action!r}")
        state = self._world.step(Commands(action[:JOINTS], bool(action[JOINTS] > 0)))
        total = reward(self._goal, self._first, cube_positions(state))
        change, self._reward = total - self._reward, total
        return state, change, False, False, self._info(state)

    def render(self) -> UInt8[np.ndarray, "H W 3"]:
        """The scene from the front.

        Raises:
            ValueError: the environment was made without `render_mode="rgb_array"`.
            ResetNeeded: no `reset` yet.
            UnveilError: no OpenGL.
        """
        if self.render_mode is None:
            raise ValueError(
                "render: this environment draws no pictures; make it with render_mode='rgb_array'"
            )
        if self._goal is None:
            raise ResetNeeded("render: call reset() before the first picture")
        return self._world.picture()

    def _info(self, state: Float[np.ndarray, "39"]) -> dict[str, Any]:
        assert self._goal is not None
        held = self._world.held
        return {
            "pairs": np.array(self._goal.pairs, np.int64).reshape(-1, 2),
            "success": bool(reward(self._goal, self._first, cube_positions(state)) > 3.0 - 1e-9),
            "held": -1 if held is None else held,
            "clipped": self._world.clipped,
        }
