"""PushT's geometry: initial states, keypoints and corners of the T. No simulator."""

from typing import Literal

import numpy as np
from jaxtyping import Float

Observed = Literal["state", "keypoints", "pixels"]
STEPS = 300  # the longest episode of the published protocol, at 10 Hz
SUCCESS = 0.95  # coverage of the target above which an episode is solved
SIDE = 512.0  # side of the scene in pixels
GOAL = (256.0, 256.0, np.pi / 4)  # x, y, angle of the target

# The nine keypoints in the block's own frame. The published ones were drawn once by farthest-point sampling
# of the T's pixels; these are the medians over the 25,650 recorded rows of R(-angle) (keypoint - position),
# from which recorded keypoints differ by 0.002 on average.
KEYPOINTS = np.array(
    [
        (9.26979, 90.04097),
        (-60.98347, -1.18673),
        (60.91276, -1.39336),
        (-0.27050, 25.54363),
        (-14.06493, 122.81585),
        (39.00274, 32.85740),
        (-39.96641, 32.72966),
        (-16.82434, 62.86318),
        (23.54146, -1.70029),
    ]
)

# The eight corners of the two bars in the block's own frame, in the order of pymunk and gym-pusht; the figure
# in gym-pusht's documentation has another order.
VERTICES = np.array(
    [(-60, 0), (60, 0), (60, 30), (-60, 30), (-15, 30), (15, 30), (15, 120), (-15, 120)], dtype=np.float64
)


def initial_state(seed: int) -> Float[np.ndarray, "5"]:
    """(agent x, y, block x, y, angle) as the published environment draws it for a seed, in its order.

    agent ~ U{50..449}^2, block ~ U{100..399}^2, angle = 2 pi N(0, 1) - pi, by numpy's `RandomState(seed)`;
    gym-pusht draws differently. The environment sets the block's position before its angle, which moves it:
    see `PushTEpisodes`.
    """
    random = np.random.RandomState(seed)
    agent, block = [random.randint(50, 450) for _ in range(2)], [random.randint(100, 400) for _ in range(2)]
    return np.array([*agent, *block, random.randn() * 2 * np.pi - np.pi])


def keypoints(states: Float[np.ndarray, "*B 5"]) -> Float[np.ndarray, "*B 9 2"]:
    """The block's keypoints, p + R(angle) k, in pixels."""
    return _placed(states, KEYPOINTS)


def vertices(states: Float[np.ndarray, "*B 5"]) -> Float[np.ndarray, "*B 8 2"]:
    """The corners of the block's two bars, p + R(angle) v, in pixels.

    They are gym-pusht's `environment_state`, which LeRobot's state policies observe beside the agent's
    position.
    """
    return _placed(states, VERTICES)


def states_of(
    agents: Float[np.ndarray, "N 2"], corners: Float[np.ndarray, "N 16"]
) -> Float[np.ndarray, "N 5"]:
    """The states with these `vertices`: rotation and translation by least squares, in closed form.

        angle = atan2(sum_i v_i x c_i, sum_i v_i . c_i)    with v and c relative to their means
        position = mean c - R(angle) mean v

    Angles are in [0, 2 pi).

    Raises:
        ValueError: a row that deviates from such a block by more than 2 pixels.
    """
    points = corners.reshape(len(corners), 8, 2).astype(np.float64)
    middle, mean = points.mean(1), VERTICES.mean(0)
    centred, own = points - middle[:, None], VERTICES - mean
    cross = (own[:, 0] * centred[..., 1] - own[:, 1] * centred[..., 0]).sum(1)
    angle = np.arctan2(cross, (own * centred).sum((1, 2))) % (2 * np.pi)
    cos, sin = np.cos(angle), np.sin(angle)
    shift = np.stack([cos * mean[0] - sin * mean[1], sin * mean[0] + cos * mean[1]], axis=1)
    states = np.concatenate([agents, middle - shift, angle[:, None]], axis=1)
    error = np.abs(vertices(states) - points).max((1, 2))
    if error.max() > 2.0:
        wrong = f"row {int(error.argmax())} is not the T's eight corners in gym-pusht's order"
        raise ValueError(f"{wrong}, by {error.max():.0f} px")
    return states


def _placed(states: np.ndarray, points: np.ndarray) -> np.ndarray:
    angle = states[..., 4, None]
    turned_x = np.cos(angle) * points[:, 0] - np.sin(angle) * points[:, 1]
    turned_y = np.sin(angle) * points[:, 0] + np.cos(angle) * points[:, 1]
    return np.stack([states[..., 2, None] + turned_x, states[..., 3, None] + turned_y], axis=-1)


def keypoint_observation(states: Float[np.ndarray, "*B 5"]) -> Float[np.ndarray, "*B 20"]:
    """The published low-dimensional observation: x and y of nine keypoints, then the agent's position."""
    return np.concatenate([keypoints(states).reshape(*states.shape[:-1], 18), states[..., :2]], axis=-1)
