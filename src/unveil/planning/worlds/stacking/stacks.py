"""What stands on what: stacks and their heights, from the positions of the cubes."""

import numpy as np
from jaxtyping import Bool, Float

from unveil.planning.worlds.stacking.scene import CUBES, SIDE

ASIDE, ABOVE = 0.6 * SIDE, 0.15 * SIDE
"""Largest distance across, and error of the height, of a cube that stands on another one, in m."""


def stands_on(positions: Float[np.ndarray, "*N 4 3"]) -> Bool[np.ndarray, "*N 4 4"]:
    """Whether cube i stands on cube j, at [..., i, j]."""
    apart = positions[..., :, None, :] - positions[..., None, :, :]
    across = np.hypot(apart[..., 0], apart[..., 1]) < ASIDE
    return across & (np.abs(apart[..., 2] - SIDE) < ABOVE)


def on_table(positions: Float[np.ndarray, "*N 4 3"]) -> Bool[np.ndarray, "*N 4"]:
    """Whether each cube stands on the table."""
    return np.abs(positions[..., 2] - SIDE / 2) < ABOVE


def levels(positions: Float[np.ndarray, "4 3"]) -> list[int]:
    """Of each cube, how many cubes of its stack are below it; -1 if it stands on nothing."""
    on, table = stands_on(positions), on_table(positions)
    found = [0 if table[k] else -1 for k in range(CUBES)]
    for _ in range(CUBES):
        for i, j in zip(*np.nonzero(on), strict=True):
            if found[j] >= 0:
                found[i] = found[j] + 1
    return found


def tallest(positions: Float[np.ndarray, "4 3"]) -> int:
    """Number of cubes of the tallest stack."""
    return max(levels(positions)) + 1


def is_clear(positions: Float[np.ndarray, "4 3"], cube: int) -> bool:
    """Whether nothing stands on a cube."""
    return not bool(stands_on(positions)[:, cube].any())
