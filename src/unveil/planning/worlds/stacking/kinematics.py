"""Forward and inverse kinematics of the arm, without the rest of the scene.

The zero position is straight up. With joint angles q_1 .. q_7 about z, y, z, -y, z, y, z the pose of the tip
is T = prod_i [translation along z by the length before joint i] R(axis_i, q_i), times the length to the tip.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from unveil.planning.worlds.stacking.scene import FLANGE, JOINTS, LIMITS, LINKS, LOWER, SHOULDER, TOOL, UPPER

AXES = np.array([[float(number) for number in link.axis.split()] for link in LINKS])
OFFSETS = np.array([link.offset for link in LINKS])
TIP = FLANGE - LINKS[6].offset + TOOL
"""From joint 7 to the tip of the tool, in m."""
DAMPING, STEPS, LONGEST, EXACT = 1e-3, 100, 0.3, 1e-9
DOWN = np.diag((-1.0, 1.0, -1.0))
"""Rotation of a tool that points down, with joint 7 at zero: the yaw is then the angle of joint 1."""


class Pose(NamedTuple):
    """Where the tip is.

    Args:
        position: (3,) m, of the base.
        rotation: (3, 3), columns are the axes of the tool; the third points out of the cup.
    """

    position: Float[np.ndarray, "3"]
    rotation: Float[np.ndarray, "3 3"]


def turned(axis: Float[np.ndarray, "3"], angle: float) -> Float[np.ndarray, "3 3"]:
    """Rotation by `angle` about a unit axis (Rodrigues): I + sin K + (1 - cos) K^2."""
    x, y, z = axis
    cross = np.array([[0.0, -z, y], [z, 0.0, -x], [-y, x, 0.0]])
    return np.eye(3) + np.sin(angle) * cross + (1.0 - np.cos(angle)) * cross @ cross


def down(yaw: float) -> Float[np.ndarray, "3 3"]:
    """Rotation of a tool that points down, turned about the vertical by `yaw`."""
    return turned(np.array([0.0, 0.0, 1.0]), yaw) @ DOWN


def chain(joints: Float[np.ndarray, "7"]) -> tuple[Pose, Float[np.ndarray, "7 3"], Float[np.ndarray, "7 3"]]:
    """The pose of the tip, and origins and axes of all joints, in the base's frame."""
    position, rotation = np.zeros(3), np.eye(3)
    origins, axes = np.zeros((JOINTS, 3)), np.zeros((JOINTS, 3))
    for k in range(JOINTS):
        position = position + rotation[:, 2] * OFFSETS[k]
        origins[k], axes[k] = position, rotation @ AXES[k]
        rotation = rotation @ turned(AXES[k], joints[k])
    return Pose(position + rotation[:, 2] * TIP, rotation), origins, axes


def tip(joints: Float[np.ndarray, "7"]) -> Pose:
    """The pose of the tip."""
    return chain(joints)[0]


def guess(position: Float[np.ndarray, "3"], yaw: float) -> Float[np.ndarray, "7"]:
    """Joints in the vertical plane of a tip that points down, elbow up: the law of cosines.

    Exact where the wrist is in reach; else the arm is stretched towards it.
    """
    across, up = float(np.hypot(position[0], position[1])), position[2] + FLANGE + TOOL - SHOULDER
    far = min(float(np.hypot(across, up)), UPPER + LOWER - 1e-6)
    elbow = np.arccos(np.clip((far**2 - UPPER**2 - LOWER**2) / (2 * UPPER * LOWER), -1.0, 1.0))
    inner = np.arccos(np.clip((far**2 + UPPER**2 - LOWER**2) / (2 * far * UPPER), -1.0, 1.0))
    shoulder = np.arctan2(across, up) - inner
    around = np.arctan2(position[1], position[0])
    wrist = np.pi - shoulder - elbow
    # the tool points down and is turned by joint 7 against joint 1
    return np.array([around, shoulder, 0.0, -elbow, 0.0, wrist, wrapped(around - yaw)])


def wrapped(angle: float) -> float:
    """An angle in [-pi, pi)."""
    return float((angle + np.pi) % (2 * np.pi) - np.pi)


def rotation_vector(rotation: Float[np.ndarray, "3 3"]) -> Float[np.ndarray, "3"]:
    """Axis times angle of a rotation, the angle in [0, pi]."""
    angle = np.arccos(np.clip((np.trace(rotation) - 1.0) / 2.0, -1.0, 1.0))
    skew = np.array(
        [rotation[2, 1] - rotation[1, 2], rotation[0, 2] - rotation[2, 0], rotation[1, 0] - rotation[0, 1]]
    )
    if angle > np.pi - 1e-5:  # sin vanishes; the axis is the column of (R + I) with the longest length
        column = (rotation + np.eye(3))[:, int(np.argmax(np.diag(rotation)))]
        return angle * column / np.linalg.norm(column)
    return skew * (0.5 if angle < 1e-9 else angle / (2.0 * np.sin(angle)))


def inverse(
    position: Float[np.ndarray, "3"], yaw: float, start: Float[np.ndarray, "7"] | None = None
) -> Float[np.ndarray, "7"]:
    """Joints that bring the tip to `position`, pointing down and turned by `yaw`: damped least squares.

    dq = J^T (J J^T + lambda^2 I)^-1 e, with the error e of position and of rotation, clipped to the limits.

    Args:
        start: joints to begin with; None: those of `guess`.
    Raises:
        ValueError: out of reach, within the limits of the joints.
    """
    q, aim = np.array(guess(position, yaw) if start is None else start), down(yaw)
    for _ in range(STEPS):
        pose, origins, axes = chain(np.clip(q, -LIMITS, LIMITS))
        error = np.concatenate([position - pose.position, rotation_vector(aim @ pose.rotation.T)])
        if float(error @ error) < EXACT**2:
            return np.clip(q, -LIMITS, LIMITS)
        jacobian = np.concatenate([np.cross(axes, pose.position - origins).T, axes.T])
        inside = jacobian @ jacobian.T + DAMPING**2 * np.eye(6)
        step = jacobian.T @ np.linalg.solve(inside, error)
        q = np.clip(q + step * min(1.0, LONGEST / (np.abs(step).max() + 1e-12)), -LIMITS, LIMITS)
    raise ValueError(f"the arm cannot reach {np.round(position, 3).tolist()} with the tool pointing down")
