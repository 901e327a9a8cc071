"""The scene: a KUKA LBR iiwa 14 R820 with a suction tool, and four cubes.

Link lengths, joint limits, velocity limits and masses are those of the arm's data sheet and of the URDF of
iiwa_stack, which PyBullet ships; the shapes, of capsules and boxes, are ours (`mjcf`).
"""

from math import radians
from typing import NamedTuple

import numpy as np

from unveil.planning.data.stacking_states import CUBES as CUBES
from unveil.planning.data.stacking_states import JOINTS as JOINTS

LIMITS = np.radians((170.0, 120.0, 170.0, 120.0, 170.0, 120.0, 175.0))
"""Largest angle of each joint to either side, in rad."""
SPEEDS = np.radians((85.0, 85.0, 100.0, 75.0, 130.0, 135.0, 135.0))
"""Largest speed of each joint, in rad/s."""
SIDE = 0.07
"""Of a cube, in m."""
TOOL = 0.10
"""Length of the suction tool, in m."""
FLANGE = 0.126
"""From the axis of joint 6 to the flange, in m."""
SHOULDER, UPPER, LOWER = 0.36, 0.42, 0.40
"""Height of the shoulder, and lengths from shoulder to elbow and from elbow to wrist, in m."""
TIMESTEP = 0.005
COLOURS = ("0.84 0.16 0.16", "0.16 0.62 0.56", "0.12 0.37 0.75", "0.95 0.66 0.0")
COLOUR_NAMES = ("red", "green", "blue", "yellow")


class Link(NamedTuple):
    """A link that turns about an axis.

    Args:
        offset: from the joint before, in m, with the arm straight up.
        axis: of the joint.
        mass: kg.
        radius: of its capsule, in m; the capsule ends at the next joint.
        force: largest torque, in N m.
        stiffness: of the position controller, in N m/rad.
    """

    offset: float
    axis: str
    mass: float
    radius: float
    force: float
    stiffness: float


LINKS = (
    Link(0.1575, "0 0 1", 4.0, 0.070, 320.0, 3000.0),
    Link(0.2025, "0 1 0", 4.0, 0.065, 320.0, 3000.0),
    Link(0.2045, "0 0 1", 3.0, 0.060, 176.0, 2000.0),
    Link(0.2155, "0 -1 0", 2.7, 0.058, 176.0, 2000.0),
    Link(0.1845, "0 0 1", 1.7, 0.050, 110.0, 1000.0),
    Link(0.2155, "0 1 0", 1.8, 0.048, 40.0, 500.0),
    Link(0.0810, "0 0 1", 0.3, 0.035, 40.0, 300.0),
)

HOME = np.array((0.0, radians(20.0), 0.0, radians(-70.0), 0.0, radians(90.0), 0.0))
"""Joints of the arm at rest: the tool hangs down in front of the base."""
