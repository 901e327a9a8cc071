"""The scene as MJCF: a KUKA LBR iiwa 14 R820 of capsules with a suction tool, four cubes, a table.

Link lengths, joint limits, velocity limits and masses are those of the arm's data sheet and of the URDF of
iiwa_stack, which PyBullet ships; the shapes are ours.
"""

from math import radians
from typing import NamedTuple

import numpy as np

JOINTS, CUBES = 7, 4
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


def _arm() -> str:
    """The links, each inside the one before, and the tool in the last."""
    lengths = [link.offset for link in LINKS[1:]] + [FLANGE - LINKS[6].offset]
    text = ""
    for number, (link, length, limit) in enumerate(zip(LINKS, lengths, LIMITS, strict=True), 1):
        inertia = f"{link.mass * (3 * link.radius**2 + length**2) / 12:.5f}"
        around = f"{link.mass * link.radius**2 / 2:.5f}"
        text += (
            f'<body name="link{number}" pos="0 0 {link.offset}" gravcomp="1">'
            f'<joint name="joint{number}" axis="{link.axis}" range="{-limit:.6f} {limit:.6f}" '
            f'damping="{link.stiffness / 20:.3f}" armature="0.3"/>'
            f'<inertial pos="0 0 {length / 2:.5f}" mass="{link.mass}" diaginertia="{inertia} {inertia} {around}"/>'
            f'<geom class="link" type="capsule" fromto="0 0 0 0 0 {length:.5f}" size="{link.radius}"/>'
        )
    flange = FLANGE - LINKS[6].offset
    text += (
        f'<body name="tool" pos="0 0 {flange:.5f}" gravcomp="1">'
        f'<inertial pos="0 0 {TOOL / 2}" mass="0.2" diaginertia="2e-4 2e-4 5e-5"/>'
        f'<geom class="link" type="cylinder" fromto="0 0 0 0 0 {TOOL - 0.012:.4f}" size="0.014" rgba="0.25 0.27 0.3 1"/>'
        f'<geom name="cup" class="cup" type="cylinder" fromto="0 0 {TOOL - 0.012:.4f} 0 0 {TOOL}" size="0.022"/>'
        f'<site name="tip" pos="0 0 {TOOL}"/></body>'
    )
    return text + "</body>" * JOINTS


def _cubes() -> str:
    half, bodies = SIDE / 2, ""
    for number, colour in enumerate(COLOURS):
        bodies += (
            f'<body name="cube{number}" pos="0.6 {0.2 * number} {half}"><freejoint name="free{number}"/>'
            f'<geom name="cube{number}" class="cube" type="box" size="{half} {half} {half}" rgba="{colour} 1"/></body>'
        )
    return bodies


def _suction() -> str:
    """A weld of each cube to the tool; the world closes one where the cup touches the cube."""
    return "".join(
        f'<weld name="suction{number}" body1="tool" body2="cube{number}" active="false" solref="0.01 1"/>'
        for number in range(CUBES)
    )


def _motors() -> str:
    return "".join(
        f'<position name="motor{number}" joint="joint{number}" kp="{link.stiffness}" '
        f'forcerange="{-link.force} {link.force}" ctrlrange="{-limit:.6f} {limit:.6f}"/>'
        for number, (link, limit) in enumerate(zip(LINKS, LIMITS, strict=True), 1)
    )


def scene() -> str:
    """The MJCF of the whole scene."""
    base = LINKS[0].offset
    return f"""<mujoco model="kuka-stacking">
<compiler angle="radian" autolimits="true"/>
<option timestep="{TIMESTEP}" integrator="implicitfast" cone="elliptic" impratio="5"/>
<visual><headlight ambient="0.45 0.45 0.45" diffuse="0.5 0.5 0.5"/><quality shadowsize="2048"/>
<map znear="0.02"/><global offwidth="1280" offheight="960" fovy="42"/></visual>
<asset><texture type="skybox" builtin="gradient" rgb1="0.96 0.97 1" rgb2="0.80 0.86 0.93" width="64" height="64"/></asset>
<default>
<default class="link"><geom rgba="0.93 0.55 0.22 1" contype="1" conaffinity="2" mass="0"/></default>
<default class="cup"><geom rgba="0.1 0.1 0.12 1" contype="1" conaffinity="2" mass="0" friction="1 0.02 0.001"/></default>
<default class="cube"><geom contype="2" conaffinity="3" density="500" friction="0.9 0.01 0.001" solref="0.008 1" condim="4"/></default>
</default>
<worldbody>
<light pos="0.6 -0.8 2.2" dir="-0.2 0.3 -1" diffuse="0.6 0.6 0.6"/>
<geom name="table" type="plane" size="1.1 1.1 0.05" rgba="0.86 0.87 0.89 1" contype="2" conaffinity="3"/>
<geom type="cylinder" fromto="0 0 0 0 0 {base - 0.02}" size="0.085" rgba="0.35 0.37 0.40 1" contype="1" conaffinity="2"/>
{_arm()}
{_cubes()}
<camera name="front" pos="1.55 -0.95 0.95" xyaxes="0.52 0.85 0 -0.40 0.25 0.88"/>
<camera name="side" pos="-0.2 -1.75 0.85" xyaxes="1 0.05 0 0 0.36 0.93"/>
</worldbody>
<equality>{_suction()}</equality>
<actuator>{_motors()}</actuator>
</mujoco>"""


HOME = np.array((0.0, radians(20.0), 0.0, radians(-70.0), 0.0, radians(90.0), 0.0))
"""Joints of the arm at rest: the tool hangs down in front of the base."""
