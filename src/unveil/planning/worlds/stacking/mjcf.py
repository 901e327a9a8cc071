"""The scene in MuJoCo's format: arm, cup, cubes, table, welds of the suction, controllers, cameras."""

from unveil.planning.worlds.stacking.scene import (
    COLOURS,
    CUBES,
    FLANGE,
    JOINTS,
    LIMITS,
    LINKS,
    SIDE,
    TIMESTEP,
    TOOL,
)

CUP = 0.012
"""Height of the cup at the end of the tool, in m."""
HEAD = f"""<mujoco model="kuka-stacking">
<compiler angle="radian" autolimits="true"/>
<option timestep="{TIMESTEP}" integrator="implicitfast" cone="elliptic" impratio="5"/>
<visual>
  <headlight ambient="0.45 0.45 0.45" diffuse="0.5 0.5 0.5"/>
  <quality shadowsize="2048"/>
  <map znear="0.02"/>
  <global offwidth="1280" offheight="960" fovy="42"/>
</visual>
<asset>
  <texture type="skybox" builtin="gradient" rgb1="0.96 0.97 1" rgb2="0.80 0.86 0.93" width="64" height="64"/>
</asset>
<default>
  <default class="link"><geom rgba="0.93 0.55 0.22 1" contype="1" conaffinity="2" mass="0"/></default>
  <default class="cup">
    <geom rgba="0.1 0.1 0.12 1" contype="1" conaffinity="2" mass="0" friction="1 0.02 0.001"/>
  </default>
  <default class="cube">
    <geom type="box" contype="2" conaffinity="3" density="500" condim="4" friction="0.9 0.01 0.001"
          solref="0.008 1"/>
  </default>
</default>"""
AROUND = f"""<light pos="0.6 -0.8 2.2" dir="-0.2 0.3 -1" diffuse="0.6 0.6 0.6"/>
<geom name="table" type="plane" size="1.1 1.1 0.05" rgba="0.86 0.87 0.89 1" contype="2" conaffinity="3"/>
<geom type="cylinder" fromto="0 0 0 0 0 {LINKS[0].offset - 0.02}" size="0.085" rgba="0.35 0.37 0.40 1"
      contype="1" conaffinity="2"/>
<camera name="front" pos="1.55 -0.95 0.95" xyaxes="0.52 0.85 0 -0.40 0.25 0.88"/>
<camera name="side" pos="-0.2 -1.75 0.85" xyaxes="1 0.05 0 0 0.36 0.93"/>"""


def scene() -> str:
    """The MJCF of the whole scene. Links collide with cubes and the table, not with each other."""
    return f"""{HEAD}
<worldbody>{AROUND}{_arm()}{_cubes()}</worldbody>
<equality>{_suction()}</equality>
<actuator>{_motors()}</actuator>
</mujoco>"""


def _arm() -> str:
    """The links, each inside the one before, and the tool in the last."""
    lengths = [link.offset for link in LINKS[1:]] + [FLANGE - LINKS[6].offset]
    text = ""
    for number, (link, length, limit) in enumerate(zip(LINKS, lengths, LIMITS, strict=True), 1):
        across = f"{link.mass * (3 * link.radius**2 + length**2) / 12:.5f}"
        along = f"{link.mass * link.radius**2 / 2:.5f}"
        text += f"""<body name="link{number}" pos="0 0 {link.offset}" gravcomp="1">
<joint name="joint{number}" axis="{link.axis}" range="{-limit:.6f} {limit:.6f}"
       damping="{link.stiffness / 20:.3f}" armature="0.3"/>
<inertial pos="0 0 {length / 2:.5f}" mass="{link.mass}" diaginertia="{across} {across} {along}"/>
<geom class="link" type="capsule" fromto="0 0 0 0 0 {length:.5f}" size="{link.radius}"/>"""
    return text + _tool() + "</body>" * JOINTS


def _tool() -> str:
    """A thin rod that ends in the cup."""
    return f"""<body name="tool" pos="0 0 {FLANGE - LINKS[6].offset:.5f}" gravcomp="1">
<inertial pos="0 0 {TOOL / 2}" mass="0.2" diaginertia="2e-4 2e-4 5e-5"/>
<geom class="link" type="cylinder" fromto="0 0 0 0 0 {TOOL - CUP:.4f}" size="0.014" rgba="0.25 0.27 0.3 1"/>
<geom name="cup" class="cup" type="cylinder" fromto="0 0 {TOOL - CUP:.4f} 0 0 {TOOL}" size="0.022"/>
<site name="tip" pos="0 0 {TOOL}"/>
</body>"""


def _cubes() -> str:
    half = SIDE / 2
    return "".join(
        f"""<body name="cube{number}" pos="0.6 {0.2 * number} {half}">
<freejoint name="free{number}"/>
<geom name="cube{number}" class="cube" size="{half} {half} {half}" rgba="{colour} 1"/>
</body>"""
        for number, colour in enumerate(COLOURS)
    )


def _suction() -> str:
    """A weld of each cube to the tool; the world closes one where the cup touches the cube."""
    return "".join(
        f'<weld name="suction{number}" body1="tool" body2="cube{number}" active="false" solref="0.01 1"/>'
        for number in range(CUBES)
    )


def _motors() -> str:
    """Position controllers."""
    return "".join(
        f"""<position name="motor{number}" joint="joint{number}" kp="{link.stiffness}"
 forcerange="{-link.force} {link.force}" ctrlrange="{-limit:.6f} {limit:.6f}"/>"""
        for number, (link, limit) in enumerate(zip(LINKS, LIMITS, strict=True), 1)
    )
