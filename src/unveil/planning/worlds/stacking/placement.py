"""Where cubes stand at the beginning: on a circle around the arm, never overlapping, alone or as stacks."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from unveil.planning.data.stacking_states import upright
from unveil.planning.worlds.stacking.scene import CUBES, SIDE

RADIUS = 0.6
"""Of the circle, in m, as published."""
WIDEST = np.radians(155.0)
"""Largest angle on the circle to either side: joint 1 ends at 170 degrees."""
APART = 2 * SIDE
"""Smallest distance between the centres of cubes on the table, in m: the tool fits between."""


def angles_on_circle(count: int, rng: np.random.Generator) -> Float[np.ndarray, " N"]:
    """Angles of cubes that are at least `APART` from each other, uniform among those."""
    while True:
        angles = rng.uniform(-WIDEST, WIDEST, count)
        gaps = np.diff(np.sort(angles))
        around = 2 * np.pi - (angles.max() - angles.min())
        if count == 1 or 2 * RADIUS * np.sin(min(gaps.min(), around) / 2) > APART:
            return angles


def on_circle(angle: float, level: int = 0) -> Float[np.ndarray, "3"]:
    """The centre of a cube at an angle, on the table or so many cubes above."""
    return np.array([RADIUS * np.cos(angle), RADIUS * np.sin(angle), SIDE * (level + 0.5)])


def placed(stacks: Sequence[Sequence[int]], rng: np.random.Generator) -> Float[np.ndarray, "4 7"]:
    """Poses of the cubes in stacks at random places.

    Args:
        stacks: numbers of cubes from below, each cube in one; `[[0], [1], [2], [3]]`: all on the table.
    Raises:
        ValueError: a cube is missing or named twice.
    """
    if sorted(cube for stack in stacks for cube in stack) != list(range(CUBES)):
        raise ValueError(
            f"each of the cubes 0 .. {CUBES - 1} must be in one stack, got {[*map(list, stacks)]}"
        )
    found = np.zeros((CUBES, 7))
    for stack, angle in zip(stacks, angles_on_circle(len(stacks), rng), strict=True):
        yaw = angle + rng.uniform(-np.pi / 4, np.pi / 4)
        for level, cube in enumerate(stack):
            found[cube] = upright(on_circle(angle, level), (yaw + np.pi / 4) % (np.pi / 2) - np.pi / 4)
    return found
