"""Many episodes of one body at once, equal to gymnasium's environment bit for bit, but without its overhead
outside MuJoCo."""

from __future__ import annotations

from copy import copy
from importlib import import_module
from typing import Any, Literal

import mujoco
import numpy as np
from jaxtyping import Bool, Float, Int

from unveil.planning.worlds.locomotion.body import Body

MODULES = {
    "hopper": "hopper",
    "walker2d": "walker2d",
    "halfcheetah": "half_cheetah",
}  # gymnasium.envs.mujoco.<module>_<version>


class LocomotionEpisodes:
    """`count` episodes of one body, stepped together; each is stepped only while it runs.

    Episode i starts like gymnasium's `reset(seed=seed + i)`, so its initial state does not depend on `count`.
    One gymnasium environment resets all episodes; they share its MuJoCo model and are stepped here, with
    speed, reward and health computed for all rows at once. Equality with `gymnasium.make`, bit for bit, is
    tested for v4 and v5.

    Attributes:
        observations: the current observations; a finished episode keeps its last one.
        rewards: rewards of the last step; 0 for episodes that were finished before.
        running: whether an episode is not finished.
        terminated: episodes that ended because the body was not healthy; the others end after `body.steps`
            steps.
        returns, lengths: sum of rewards and number of steps up to now.

    Raises:
        ValueError: count < 1, seed < 0, or a version other than v4 and v5.
    """

    observations: Float[np.ndarray, "B D"]
    rewards: Float[np.ndarray, " B"]
    running: Bool[np.ndarray, " B"]
    terminated: Bool[np.ndarray, " B"]
    returns: Float[np.ndarray, " B"]
    lengths: Int[np.ndarray, " B"]

    def __init__(self, body: Body, count: int, seed: int, version: Literal["v4", "v5"] = "v5") -> None:
        if count < 1 or version not in ("v4", "v5"):
            raise ValueError(
                f"locomotion episodes: count >= 1 and version v4 or v5 are needed, got {count} and "
                f"{version!r}"
            )
        self.body = body
        self.count = count
        self.version = version
        self._alive_at_the_end = version == "v4"
        self._world = getattr(
            import_module(f"gymnasium.envs.mujoco.{MODULES[body.name]}_{version}"), f"{body.title}Env"
        )()
        self._model = self._world.model
        self.reset(seed)

    def reset(self, seed: int) -> Float[np.ndarray, "B D"]:
        """Reset all episodes, episode i with seed + i; returns observations."""
        if seed < 0:
            raise ValueError(f"locomotion episodes: seed >= 0 is needed, got {seed}")
        self._data: list[Any] = []  # of MjData, of which mujoco's stub knows little
        for i in range(self.count):
            self._world.reset(seed=seed + i)
            self._data.append(copy(self._world.data))
        self._views = [(data.ctrl, data.qpos, data.qvel) for data in self._data]
        self._positions = np.stack([position for _, position, _ in self._views])
        self._velocities = np.stack([velocity for _, _, velocity in self._views])
        self.running = np.ones(self.count, dtype=bool)
        self.terminated = np.zeros(self.count, dtype=bool)
        self.rewards, self.returns = np.zeros(self.count), np.zeros(self.count)
        self.lengths = np.zeros(self.count, dtype=np.int64)
        self.observations = self._observed(self._positions, self._velocities)
        return self.observations.copy()

    def step(self, actions: Float[np.ndarray, "B A"]) -> Float[np.ndarray, "B D"]:
        """Apply torques, clipped to [-1, 1], in running episodes; returns observations.

        Raises:
            ValueError: actions of another shape, or not finite where the episode runs.
        """
        if actions.shape != (self.count, self.body.actions):
            raise ValueError(
                f"{self.body.name}: actions of shape {(self.count, self.body.actions)} are needed, got "
                f"{actions.shape}"
            )
        rows = np.flatnonzero(self.running)
        if not np.isfinite(actions[rows]).all():
            raise ValueError(f"{self.body.name}: actions must be finite numbers")
        torques = np.clip(actions[rows], -1.0, 1.0, dtype=np.float64)
        before = self._positions[rows, 0]
        advance, model, frames = mujoco.mj_step, self._model, self._world.frame_skip  # pyright: ignore[reportAttributeAccessIssue]
        for torque, i in zip(torques, rows.tolist(), strict=True):
            control, position, velocity = self._views[i]
            control[:] = torque
            advance(model, self._data[i], frames)
            self._positions[i], self._velocities[i] = position, velocity
        positions, velocities = self._positions[rows], self._velocities[rows]
        healthy = self._healthy(positions, velocities)
        alive = self.body.alive * (healthy | self._alive_at_the_end)
        speed = (positions[:, 0] - before) / self._world.dt
        self.observations[rows] = self._observed(positions, velocities)
        self.rewards = np.zeros(self.count)
        self.rewards[rows] = speed + alive - self.body.control_cost * np.square(torques).sum(1)
        self.returns += self.rewards
        self.lengths[rows] += 1
        self.terminated[rows] = ~healthy
        self.running &= ~self.terminated & (self.lengths < self.body.steps)
        return self.observations.copy()

    @property
    def seconds(self) -> float:
        """Time of one environment step."""
        return float(self._world.dt)

    def side_view(self, episode: int) -> Float[np.ndarray, "G 5"]:
        """The G capsules of a body, seen from the side; see `capsules`."""
        return capsules(self._model, self._data[episode])

    def _observed(self, positions: np.ndarray, velocities: np.ndarray) -> np.ndarray:
        return np.concatenate(
            [positions[:, 1:], velocities.clip(-self.body.fastest, self.body.fastest)], axis=1
        )

    def _healthy(self, positions: np.ndarray, velocities: np.ndarray) -> np.ndarray:
        state = np.concatenate([positions[:, 2:], velocities], axis=1)
        values = ((positions[:, 1], self.body.height), (positions[:, 2], self.body.angle))
        return _within(state, self.body.state).all(1) & np.all(
            [_within(value, limits) for value, limits in values], axis=0
        )


def _within(values: np.ndarray, limits: tuple[float, float]) -> np.ndarray:
    return (limits[0] < values) & (values < limits[1])


def capsules(model: Any, data: Any) -> Float[np.ndarray, "G 5"]:
    """The G capsules of a MuJoCo model, seen from the side.

    Returns:
        Rows (x, z, x, z, radius) in metres: the two ends of each capsule's axis, and its radius.
    """
    mujoco.mj_kinematics(model, data)  # pyright: ignore[reportAttributeAccessIssue]
    chosen = np.flatnonzero(model.geom_type == mujoco.mjtGeom.mjGEOM_CAPSULE)  # pyright: ignore[reportAttributeAccessIssue]
    centre, turn = data.geom_xpos[chosen], data.geom_xmat[chosen].reshape(-1, 3, 3)
    radius, half = model.geom_size[chosen, :2].T
    along = turn[:, :, 2] * half[:, None]
    ends = [(centre + sign * along)[:, [0, 2]] for sign in (-1.0, 1.0)]
    return np.concatenate([*ends, radius[:, None]], axis=1)
