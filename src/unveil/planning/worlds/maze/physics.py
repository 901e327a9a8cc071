"""The ball of D4RL's Maze2D, stepped by MuJoCo for many episodes in one call.

A state is (position, velocity), four numbers, so `mujoco.rollout` steps a batch of states at once: every
episode is exact, and no Python code runs per episode.
"""

import mujoco
import numpy as np
from jaxtyping import Float
from mujoco import rollout

from unveil.planning.worlds.maze.layout import BALL_RADIUS, BODY_OFFSET, Layout

MAX_SPEED = 5.0  # each component is clipped to [-5, 5] before every step
TOP_SPEED = 5.23  # largest component after a step, in cells/s: full force adds 0.23 to a clipped one


def model_xml(layout: Layout) -> str:
    """The MuJoCo model of a layout, with all elements of D4RL's `point_maze` but textures and lights."""
    body = 1.0 + BODY_OFFSET
    walls = "\n".join(
        f'<geom name="wall_{i}_{j}" type="box" conaffinity="1" pos="{i + 1.0} {j + 1.0} 0" size="0.5 0.5 '
        '0.2"/>'
        for i, j in np.argwhere(layout.walls)
    )
    return f"""<mujoco model="point_maze">
<compiler inertiafromgeom="true" angle="radian"/>
<option timestep="0.01" gravity="0 0 0" iterations="20" integrator="Euler"/>
<default>
  <joint damping="1" limited="false"/>
  <geom friction="0.5 0.1 0.1" density="1000" margin="0.002" condim="1" contype="2" conaffinity="1"/>
</default>
<worldbody>
  <geom name="ground" type="plane" size="40 40 0.25" pos="0 0 -0.1" contype="1" conaffinity="0"/>
  <body name="particle" pos="{body} {body} 0">
    <geom name="particle_geom" type="sphere" size="{BALL_RADIUS}" contype="1"/>
    <joint name="ball_x" type="slide" pos="0 0 0" axis="1 0 0"/>
    <joint name="ball_y" type="slide" pos="0 0 0" axis="0 1 0"/>
  </body>
  {walls}
</worldbody>
<actuator>
  <motor joint="ball_x" ctrlrange="-1 1" ctrllimited="true" gear="100"/>
  <motor joint="ball_y" ctrlrange="-1 1" ctrllimited="true" gear="100"/>
</actuator>
</mujoco>"""


class BallPhysics:
    """Step a batch of balls by 0.01 s: (state, action) -> next state.

    State rows are (x, y, vx, vy) in cells and cells per second; actions are forces in [-1, 1], clipped, times
    100 N on 4.19 kg.
    """

    def __init__(self, layout: Layout) -> None:
        self.model = mujoco.MjModel.from_xml_string(model_xml(layout))  # pyright: ignore[reportAttributeAccessIssue]
        self.data = mujoco.MjData(self.model)  # pyright: ignore[reportAttributeAccessIssue]
        self._rollout = rollout.Rollout(nthread=0)

    def step(
        self, state: Float[np.ndarray, "B 4"], action: Float[np.ndarray, "B 2"]
    ) -> Float[np.ndarray, "B 4"]:
        """One step of all balls.

        Raises:
            ValueError: a state or an action is not finite.
        """
        if not (np.isfinite(state).all() and np.isfinite(action).all()):
            raise ValueError("maze physics: states and actions must be finite numbers")
        full = np.zeros((len(state), 5))  # MuJoCo's full physics state: time, position, velocity
        full[:, 1:3] = state[:, :2]
        full[:, 3:] = np.clip(state[:, 2:], -MAX_SPEED, MAX_SPEED)
        control = np.clip(action, -1.0, 1.0, dtype=np.float64)[:, None, :]
        states, _ = self._rollout.rollout(self.model, self.data, full, control)
        return np.asarray(states)[:, 0, 1:]
