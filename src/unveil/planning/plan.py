"""The result of planning a path."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int


@dataclass(frozen=True)
class Plan:
    """A chosen path and the candidates that it was chosen from. Positions are in the data's units.

    Args:
        path: (H, D), the sampled path from start to goal; positions are `stride` environment steps apart at
            the pace of the data.
        followed: (M, D), points evenly spaced along the path, which the controller follows.
        times: (M,), environment steps after which the points of `followed` can be reached within the data's
            limits of speed and acceleration.
        arrival: predicted environment step at which the body is within the controller's hold radius of the
            goal.
        candidates: (K, H', D), all sampled paths, each padded by its goal.
        lengths: (K,), positions of each candidate without the padding.
        unsupported: (K,), share of each candidate that runs where no data went, 0 to 1.
        chosen: index of `path` among the candidates.
        gates: indices of the positions of `path` that are waypoints.
        followed_gates: their indices among the points of `followed`.
    """

    path: Float[np.ndarray, "H D"]
    followed: Float[np.ndarray, "M D"]
    times: Float[np.ndarray, " M"]
    arrival: float
    candidates: Float[np.ndarray, "K L D"]
    lengths: Int[np.ndarray, " K"]
    unsupported: Float[np.ndarray, " K"]
    chosen: int
    gates: tuple[int, ...] = ()
    followed_gates: tuple[int, ...] = ()
