"""The demonstrator: takes a cube and puts it onto another one or onto the table, by inverse kinematics.

From where the arm is: up, over the cube, straight down until the cup touches it, up, over the target,
straight down, let go, straight up. Between, the tip moves on arcs around the base above all that is there.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from unveil.planning.data.stacking_states import TURNS, cube_positions, yaw_of
from unveil.planning.worlds.stacking.kinematics import inverse, tip, wrapped
from unveil.planning.worlds.stacking.scene import LIMITS, SIDE, SPEEDS
from unveil.planning.worlds.stacking.world import CONTROL, Commands

ROOM = 0.05
"""Smallest distance of what moves above what stands there, in m."""
PRESSED, DROPPED = 0.006, 0.002
"""How far the cup would go into a face, so that it is pressed onto it, and how far a cube falls, in m."""
FASTEST = 0.9
"""Share of the joints' largest speeds."""
POINT = 0.02
"""Distance between points of straight lines, in m."""


class Style(NamedTuple):
    """How a cube is moved; drawn for each move, so that demonstrations differ.

    Args:
        speed: share of the largest speed.
        extra: height above the lowest safe one, in m.
        wait: steps that the arm rests before it goes on, where it takes and where it lets go.
        aside: where the cube is taken and put, off the centres, in m: (2, 2).
    """

    speed: float
    extra: float
    wait: tuple[int, int]
    aside: Float[np.ndarray, "2 2"]


def random_style(rng: np.random.Generator) -> Style:
    """A style: speed 0.7 to 1, height up to 5 cm, 2 to 4 steps of rest, off the centres by about 3 mm."""
    wait = (int(rng.integers(2, 5)), int(rng.integers(2, 5)))
    return Style(rng.uniform(0.7, 1.0), rng.uniform(0.0, 0.05), wait, rng.normal(0.0, 0.003, (2, 2)))


def moves(
    state: Float[np.ndarray, "39"], cube: int, target: Float[np.ndarray, "3"], yaw: float, style: Style
) -> Iterator[Commands]:
    """The commands that bring a cube to a place.

    Args:
        target: where the centre of the cube shall be.
        yaw: angle that the cube shall have; any of the four that look the same.
    Raises:
        ValueError: out of reach.
    """
    positions = cube_positions(state)
    others = np.delete(positions, cube, 0)
    safe = others[:, 2].max() + SIDE / 2 + ROOM + style.extra  # of the lowest point of what moves
    at, start = positions[cube], state[:7]
    top = at + np.array([*style.aside[0], SIDE / 2 - PRESSED])
    grasp_yaw = float(np.arctan2(at[1], at[0]))
    turn = _nearest_quarter(yaw - yaw_of(state[TURNS[cube]]), grasp_yaw, target)
    put = target + np.array([*style.aside[1], SIDE / 2 + DROPPED])
    now = tip(start).position
    high = max(safe, top[2] + ROOM)
    over = max(safe + SIDE, top[2] + ROOM)
    q = start
    if now[2] < high - 1e-3:
        q = yield from _through(_line(now, _at(now, high), _yaw_of_tip(start), q), False, style)
    above = inverse(_at(top, max(high, now[2])), grasp_yaw)
    q = yield from _arc(q, above, False, style)
    q = yield from _through(_line(_at(top, max(high, now[2])), top, grasp_yaw, q), False, style)
    q = yield from _rest(q, True, style.wait[0])
    q = yield from _through(_line(top, _at(top, over), grasp_yaw, q), True, style)
    put_yaw = grasp_yaw + turn
    above = inverse(_at(put, max(over, put[2])), put_yaw)
    q = yield from _arc(q, above, True, style)
    q = yield from _through(_line(_at(put, max(over, put[2])), put, put_yaw, q), True, style)
    q = yield from _rest(q, True, style.wait[1])
    q = yield from _rest(q, False, style.wait[1])
    yield from _through(_line(put, _at(put, put[2] + ROOM + style.extra), put_yaw, q), False, style)


def _at(point: Float[np.ndarray, "3"], height: float) -> Float[np.ndarray, "3"]:
    return np.array([point[0], point[1], height])


def _yaw_of_tip(joints: Float[np.ndarray, "7"]) -> float:
    return wrapped(joints[0] - joints[6])


def _nearest_quarter(turn: float, grasp_yaw: float, target: Float[np.ndarray, "3"]) -> float:
    """Of the turns by quarters, the one for which joint 7 moves least."""
    natural = wrapped(float(np.arctan2(target[1], target[0])) - grasp_yaw)
    return min((wrapped(turn + k * np.pi / 2) for k in range(4)), key=lambda it: abs(wrapped(it - natural)))


def _line(
    begin: Float[np.ndarray, "3"], end: Float[np.ndarray, "3"], yaw: float, q: Float[np.ndarray, "7"]
) -> list[Float[np.ndarray, "7"]]:
    """Joints along a straight line of the tip."""
    count = max(2, int(np.ceil(np.linalg.norm(end - begin) / POINT)) + 1)
    found = [q]
    for share in np.linspace(0.0, 1.0, count)[1:]:
        point = begin + (end - begin) * share
        found.append(_near(inverse(point, yaw, None), found[-1]))
    return found


def _near(joints: Float[np.ndarray, "7"], before: Float[np.ndarray, "7"]) -> Float[np.ndarray, "7"]:
    """The same pose with joint 7 a turn further, if that is nearer and within its limits."""
    found = joints.copy()
    for k in (0, 6):
        around = found[k] + 2 * np.pi * np.round((before[k] - found[k]) / (2 * np.pi))
        found[k] = around if abs(around) <= LIMITS[k] else found[k]
    return found


def _through(points: list[Float[np.ndarray, "7"]], suction: bool, style: Style) -> Iterator[Commands]:
    """Commands through joints, slow at both ends; returns the last joints."""
    path = np.array(points)
    lengths = np.concatenate([[0.0], np.cumsum(np.abs(np.diff(path, axis=0) / SPEEDS).max(1))])
    seconds = 1.5 * lengths[-1] / (FASTEST * style.speed)  # of 3 u^2 - 2 u^3, whose largest speed is 1.5
    count = max(1, int(np.ceil(seconds / CONTROL)))
    for number in range(1, count + 1):
        u = number / count
        where = lengths[-1] * (3 * u**2 - 2 * u**3)
        yield Commands(np.array([np.interp(where, lengths, column) for column in path.T]), suction)
    return path[-1]


def _arc(
    q: Float[np.ndarray, "7"], end: Float[np.ndarray, "7"], suction: bool, style: Style
) -> Iterator[Commands]:
    """Commands straight from joints to joints: on the same circle the tip moves on an arc."""
    return _through([q, _near(end, q)], suction, style)


def _rest(q: Float[np.ndarray, "7"], suction: bool, steps: int) -> Iterator[Commands]:
    for _ in range(steps):
        yield Commands(q, suction)
    return q
