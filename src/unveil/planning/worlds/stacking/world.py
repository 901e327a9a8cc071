"""The simulation: joint position control, and a suction cup that holds what it touches."""

from typing import Any, NamedTuple

# mujoco's stubs leave out what its C library defines
# pyright: reportAttributeAccessIssue=false
import mujoco
import numpy as np
from jaxtyping import Bool, Float, UInt8

from unveil.errors import UnveilError
from unveil.planning.data.stacking_states import CONTACTS, PLACES, SIZE, TURNS
from unveil.planning.worlds.stacking.mjcf import scene
from unveil.planning.worlds.stacking.scene import CUBES, HOME, JOINTS, LIMITS, TIMESTEP

CONTROL = 0.08
"""Seconds between two states."""
SUBSTEPS = round(CONTROL / TIMESTEP)
FLAT = 0.9
"""Smallest cosine between the axis of the cup and the normal of a face that it holds."""


class Commands(NamedTuple):
    """What the arm is told for one state: angles (7,) in rad, and whether the cup sucks."""

    joints: Float[np.ndarray, "7"]
    suction: bool


class StackingWorld:
    """One arm and four cubes.

    The cup sucks if it is told to; it then holds the first cube that it really touches, flat on a face, by a
    weld at the pose of that moment, until it stops sucking. Cubes fall, tip and collide.

    Args:
        held: number of the cube that the cup holds, or None.
        clipped: number of commanded angles so far that were outside of the joints' limits and were clipped.
    """

    def __init__(self) -> None:
        self.model = mujoco.MjModel.from_xml_string(scene())
        self.data = mujoco.MjData(self.model)
        self.held: int | None = None
        self.clipped = 0
        self._target = HOME.copy()
        self._sucks = False
        self._renderer: mujoco.Renderer | None = None
        self._cup = self.model.geom("cup").id
        self._cubes = [self.model.geom(f"cube{k}").id for k in range(CUBES)]
        self._tool = self.model.body("tool").id
        self._bodies = [self.model.body(f"cube{k}").id for k in range(CUBES)]

    def reset(
        self, cubes: Float[np.ndarray, "4 7"], joints: Float[np.ndarray, "7"] = HOME, settle: int = 10
    ) -> Float[np.ndarray, "39"]:
        """Put the cubes and the arm somewhere, at rest.

        Args:
            cubes: positions and quaternions.
            settle: number of steps until the first state.
        """
        mujoco.mj_resetData(self.model, self.data)
        self.data.qpos[:JOINTS] = self.data.ctrl[:] = self._target = np.clip(joints, -LIMITS, LIMITS)
        self.data.qpos[JOINTS:] = cubes.reshape(-1)
        self.held, self.clipped, self._sucks = None, 0, False
        mujoco.mj_forward(self.model, self.data)
        for _ in range(settle):
            mujoco.mj_step(self.model, self.data)
        return self.state()

    def step(self, commands: Commands) -> Float[np.ndarray, "39"]:
        """Follow a command for `CONTROL` seconds; the controller's targets go there in a straight line.

        Raises:
            ValueError: angles that are not seven finite numbers.
        """
        joints = np.asarray(commands.joints, np.float64)
        if joints.shape != (JOINTS,) or not np.isfinite(joints).all():
            raise ValueError(f"seven finite angles are needed, got {commands.joints!r}")
        aim = np.clip(joints, -LIMITS, LIMITS)
        self.clipped += int((aim != joints).sum())
        self._sucks = commands.suction
        if not self._sucks and self.held is not None:
            self.data.eq_active[self.held] = 0
            self.held = None
        before = self._target
        for number in range(1, SUBSTEPS + 1):
            self.data.ctrl[:] = before + (aim - before) * number / SUBSTEPS
            mujoco.mj_step(self.model, self.data)
            if self._sucks and self.held is None:
                self._hold()
        self._target = aim
        return self.state()

    def state(self) -> Float[np.ndarray, "39"]:
        """The 39 numbers of this moment; quaternions have w >= 0."""
        found = np.zeros(SIZE)
        found[:JOINTS] = self.data.qpos[:JOINTS]
        poses = self.data.qpos[JOINTS:].reshape(CUBES, 7)
        found[PLACES] = poses[:, :3]
        found[TURNS] = poses[:, 3:] * np.where(poses[:, 3:4] < 0, -1.0, 1.0)
        found[CONTACTS] = self.holds()
        return found

    def picture(
        self, camera: str = "front", width: int = 480, height: int = 360
    ) -> UInt8[np.ndarray, "H W 3"]:
        """The scene as MuJoCo draws it.

        Args:
            camera: front or side.
        Raises:
            UnveilError: no OpenGL.
        """
        if self._renderer is None:
            check_opengl(width, height)
            self._renderer = mujoco.Renderer(self.model, height, width)
        self._renderer.update_scene(self.data, camera)
        return self._renderer.render()

    def holds(self) -> Bool[np.ndarray, "4"]:
        """Whether the cup holds each cube."""
        return np.arange(CUBES) == (-1 if self.held is None else self.held)

    def _hold(self) -> None:
        """Hold the cube that the cup touches, if there is one."""
        contacts = self.data.contact
        for pair, frame, distance in zip(contacts.geom, contacts.frame, contacts.dist, strict=True):
            if self._cup not in pair or distance > 0.0:
                continue
            other = int(pair[0] if pair[1] == self._cup else pair[1])
            axis = self.data.xmat[self._tool].reshape(3, 3)[:, 2]
            if other in self._cubes and abs(float(axis @ frame[:3])) >= FLAT:
                self._weld(self._cubes.index(other))
                return

    def _weld(self, cube: int) -> None:
        """Close the weld of a cube at its present pose relative to the tool."""
        turn, back = np.zeros(4), np.zeros(4)
        mujoco.mju_negQuat(back, self.data.xquat[self._tool])
        mujoco.mju_mulQuat(turn, back, self.data.xquat[self._bodies[cube]])
        apart = self.data.xpos[self._bodies[cube]] - self.data.xpos[self._tool]
        at = self.data.xmat[self._tool].reshape(3, 3).T @ apart
        self.model.eq_data[cube] = [0.0, 0.0, 0.0, *at, *turn, 1.0]
        self.data.eq_active[cube] = 1
        self.held = cube


def check_opengl(width: int, height: int) -> None:
    """Try to begin a picture; a `mujoco.Renderer` that fails is not quiet.

    Raises:
        UnveilError: no OpenGL.
    """
    try:
        context: Any = mujoco.GLContext  # None without a library of it
        context(width, height).free()
    except Exception as error:  # of OpenGL's loaders, which have no common one
        raise UnveilError(
            f"MuJoCo finds no OpenGL ({str(error)[:80]}); install libegl1 or libosmesa6, and set MUJOCO_GL "
            "to egl or osmesa"
        ) from error
