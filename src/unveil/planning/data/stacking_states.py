"""The 39 numbers of a state, as published: 7 joints, then for each cube position, quaternion and contact."""

import numpy as np
from jaxtyping import Float

JOINTS, CUBES = 7, 4
CUBE = 8
"""Numbers of a cube: position (m), quaternion (w, x, y, z), contact (1 while the tool holds it, else 0)."""
SIZE = JOINTS + CUBES * CUBE
PLACES = np.array([JOINTS + CUBE * k + np.arange(3) for k in range(CUBES)])
"""Where the positions are, (4, 3)."""
TURNS = PLACES[:, :1] + 3 + np.arange(4)
"""Where the quaternions are, (4, 4)."""
CONTACTS = PLACES[:, 0] + 7
"""Where the contacts are, (4,)."""


def cube_positions(states: Float[np.ndarray, "*N 39"]) -> Float[np.ndarray, "*N 4 3"]:
    """Centres of the cubes, in m."""
    return states[..., PLACES]


def yaw_of(quaternion: Float[np.ndarray, "4"]) -> float:
    """Angle of a cube about the vertical, of a quaternion (w, x, y, z)."""
    w, x, y, z = quaternion
    return float(np.arctan2(2.0 * (w * z + x * y), 1.0 - 2.0 * (y * y + z * z)))


def upright(position: Float[np.ndarray, "3"], yaw: float) -> Float[np.ndarray, "7"]:
    """Position and quaternion of a cube that stands on a face."""
    return np.array([*position, np.cos(yaw / 2), 0.0, 0.0, np.sin(yaw / 2)])
