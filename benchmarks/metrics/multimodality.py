"""Multi-modality: from a symmetric start there are two equally good ways round the block. Does a policy take both, and commit?

Chi et al. 2023, figure 3. The axis of symmetry is the target's stem. The block lies on it, with the target's
angle, and must be pushed along it by its bar; the agent starts beyond the stem's end and must pass on one
side.

            . agent
            |  stem of the block
         -------  its bar: it must be pushed from below         left: across > 0, right: across < 0
          (target further up)
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from unveil.policy.worlds.pusht.block import GOAL

ALONG = np.array([-np.sin(GOAL[2]), np.cos(GOAL[2])])  # the stem's direction
ACROSS = np.array([-ALONG[1], ALONG[0]])
TURNED = 40.0  # distance in px from the axis at which a side is taken; half the bar is 60


class Sides(NamedTuple):
    """Fractions of B episodes.

    Args:
        left, right: fractions that first moved to a side by `TURNED`.
        committed: fraction, among those that took a side, that did not change to the other before passing the
            bar (nan: none).
    """

    left: float
    right: float
    committed: float


def symmetric_state(distance: float = 60.0, agent: float = 220.0) -> Float[np.ndarray, "5"]:
    """The start: the block `distance` px before its target along the stem, the agent `agent` px beyond the block's origin.

    The scene is symmetric, the demonstrations need not be: from further up people, and so policies, prefer
    one way.
    """
    block = np.array(GOAL[:2]) - distance * ALONG
    return np.array([*(block + agent * ALONG), *block, GOAL[2]])


def sides(agents: Float[np.ndarray, "T B 2"], start: Float[np.ndarray, "5"]) -> Sides:
    """The side on which each agent passes the block at its start; it has passed the bar where `along` is below 0."""
    offset = agents - start[2:4]
    across, along = offset @ ACROSS, offset @ ALONG
    taken = np.where(across > TURNED, 1, np.where(across < -TURNED, -1, 0))
    before = np.cumsum(along < 0.0, axis=0) == 0  # rows before it has passed
    first, kept = np.zeros(agents.shape[1], int), np.ones(agents.shape[1], bool)
    for row, open_ in zip(taken, before, strict=True):
        kept &= ~(open_ & (first != 0) & (row == -first))
        first = np.where((first == 0) & open_, row, first)
    took = first != 0
    return Sides(
        float((first == 1).mean()),
        float((first == -1).mean()),
        float(kept[took].mean()) if took.any() else float("nan"),
    )
