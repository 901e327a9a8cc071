"""Generate D4RL's Maze2D data: one ball, one noisy controller, random targets, no resets."""

from collections.abc import Callable

import mujoco
import numpy as np

from unveil.planning.data.episodes import Episodes
from unveil.planning.worlds.maze.controller import WaypointController
from unveil.planning.worlds.maze.episodes import goal_reward, random_positions
from unveil.planning.worlds.maze.layout import Layout
from unveil.planning.worlds.maze.physics import MAX_SPEED, BallPhysics

BLOCK = 10_000  # steps between two calls of `progress`, and between two draws of action noise


def collect(
    layout: Layout,
    steps: int,
    generator: np.random.Generator,
    noise: float = 0.5,
    progress: Callable[[int], None] | None = None,
) -> Episodes:
    """Generate `steps` transitions as D4RL's `generate_maze2d_datasets.py --noisy` and its relabelling script
    do.

    Noise N(0, noise^2) is added to the controller's force, which is then clipped to [-1, 1]. When the
    controller has reached its target, or after the episode length of the layout, a new target is drawn and
    the ball continues from its position; the next recorded observation is the old one, as published.
    `timeouts` marks these steps; `rewards[t]` is 1 where `observations[t]` is within 0.5 cells of the
    layout's goal.

    Args:
        steps: number of transitions.
        noise: standard deviation of the noise on the force.
        progress: called repeatedly with the number of finished steps.
    Raises:
        ValueError: steps < 1 or noise < 0.
    """
    if steps < 1 or noise < 0:
        raise ValueError(f"collect: steps >= 1 and noise >= 0 are needed, got {steps} and {noise}")
    physics = BallPhysics(layout)
    model, data = physics.model, physics.data
    controller = WaypointController(layout, generator)
    start = random_positions(layout, 1, generator)[0]
    position, velocity, control = data.qpos, data.qvel, data.ctrl
    position[:] = start
    velocity[:] = 0.1 * generator.standard_normal(2)
    observations = np.empty((steps, 4), dtype=np.float32)
    exact = np.empty((steps, 4), dtype=np.float32)
    actions = np.empty((steps, 2), dtype=np.float32)
    goals = np.empty((steps, 2), dtype=np.float32)
    timeouts = np.zeros(steps, dtype=bool)
    goal = tuple(random_positions(layout, 1, generator)[0].tolist())
    state = (*position.tolist(), *velocity.tolist())
    disturbance: list[list[float]] = []
    elapsed = 0
    for t in range(steps):
        if t % BLOCK == 0:
            disturbance = (noise * generator.standard_normal((BLOCK, 2))).tolist()
            if progress is not None:
                progress(t)
        fx, fy, done = controller.act(state[0], state[1], state[2], state[3], goal)
        ex, ey = disturbance[t % BLOCK]
        fx, fy = min(max(fx + ex, -1.0), 1.0), min(max(fy + ey, -1.0), 1.0)
        done = done or elapsed >= layout.steps
        px, py = position.tolist()
        vx, vy = velocity.tolist()
        observations[t] = state
        exact[t] = (px, py, vx, vy)
        actions[t] = (fx, fy)
        goals[t] = goal
        timeouts[t] = done
        if max(vx, vy, -vx, -vy) > MAX_SPEED:
            np.clip(velocity, -MAX_SPEED, MAX_SPEED, out=velocity)
        control[:] = (fx, fy)
        mujoco.mj_step(model, data)  # pyright: ignore[reportAttributeAccessIssue]
        elapsed += 1
        if done:
            goal = tuple(random_positions(layout, 1, generator)[0].tolist())
            elapsed = 0
        else:
            state = (*position.tolist(), *velocity.tolist())
    if progress is not None:
        progress(steps)
    return Episodes(
        observations=observations,
        actions=actions,
        rewards=goal_reward(
            observations[:, :2].astype(np.float64), np.broadcast_to(layout.goal, (steps, 2))
        ).astype(np.float32),
        terminals=np.zeros(steps, dtype=bool),
        timeouts=timeouts,
        infos={"goal": goals, "qpos": exact[:, :2], "qvel": exact[:, 2:]},
    )
