"""What a path planner answers with."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float


@dataclass(frozen=True)
class Plan:
    """A chosen path and what it was chosen from.

    Args:
        path: (H, D), the raw sample, `stride` environment steps apart at the pace of the data; first the start, last the goal.
        followed: (M, D), the same polyline at even spacing, as the executor gets it.
        times: (M,), steps at which the points of `followed` can be reached within the limits seen in the data.
        arrival: predicted step at which the body comes within the executor's hold radius of the goal.
        candidates: (K, H', D), all samples, each padded by its goal; `lengths` (K,) counts the real positions.
        unsupported: (K,), share of each candidate that runs where no data went.
        chosen: index of `path` among them.
        gates: the positions of `path` that are waypoints.
    """

    path: Float[np.ndarray, "H D"]
    followed: Float[np.ndarray, "M D"]
    times: Float[np.ndarray, " M"]
    arrival: float
    candidates: Float[np.ndarray, "K L D"]
    lengths: np.ndarray
    unsupported: Float[np.ndarray, " K"]
    chosen: int
    gates: tuple[int, ...] = ()
