"""PushT's numbers: where episodes start, the T's keypoints, and what is observed. No simulator."""

from typing import Literal

import numpy as np
from jaxtyping import Float

Observed = Literal["state", "keypoints", "pixels"]
STEPS = 300  # the longest episode of the published protocol, at 10 Hz
SUCCESS = 0.95  # coverage of the mark from which an episode is solved
SIDE = 512.0  # of the scene
GOAL = (256.0, 256.0, np.pi / 4)  # x, y, angle of the mark

# Of the nine keypoints, in the block's own frame. The published ones were drawn once by farthest-point sampling of the T's pixels; these
# are the medians over the 25,650 recorded rows of R(-angle) (keypoint - position), from which the recorded ones differ by 0.002 on average.
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

# The eight corners of the two bars in the block's own frame, in the order in which pymunk keeps them and gym-pusht says them; that of the
# drawing in its documentation is another.
VERTICES = np.array(
    [(-60, 0), (60, 0), (60, 30), (-60, 30), (-15, 30), (15, 30), (15, 120), (-15, 120)], dtype=np.float64
)


def initial_state(seed: int) -> Float[np.ndarray, "5"]:
    """(agent x, y, block x, y, angle) as the published environment draws it for a seed, with the published order of draws.

    agent ~ U{50..449}^2, block ~ U{100..399}^2, angle = 2 pi N(0, 1) - pi, of numpy's `RandomState(seed)`; gym-pusht draws otherwise. The
    block's position is set before its angle there, which moves it: see `PushTEpisodes`.
    """
    random = np.random.RandomState(seed)
    agent, block = [random.randint(50, 450) for _ in range(2)], [random.randint(100, 400) for _ in range(2)]
    return np.array([*agent, *block, random.randn() * 2 * np.pi - np.pi])


def keypoints(states: Float[np.ndarray, "*B 5"]) -> Float[np.ndarray, "*B 9 2"]:
    """The block's keypoints, p + R(angle) k, in pixels."""
    return _placed(states, KEYPOINTS)


def vertices(states: Float[np.ndarray, "*B 5"]) -> Float[np.ndarray, "*B 8 2"]:
    """The corners of the block's two bars, p + R(angle) v, in pixels: what gym-pusht calls `environment_state`, and LeRobot's policies of
    states observe beside the agent's position."""
    return _placed(states, VERTICES)


def states_of(
    agents: Float[np.ndarray, "N 2"], corners: Float[np.ndarray, "N 16"]
) -> Float[np.ndarray, "N 5"]:
    """The states whose `vertices` these are: of each row the turn and shift that fit best, in closed form.

        angle = atan2(sum_i v_i x c_i, sum_i v_i . c_i),    position = mean c - R(angle) mean v,    v and c about their means

    Angles are in [0, 2 pi).

    Raises:
        ValueError: a row that is no such block, by more than 2 pixels.
    """
    seen = corners.reshape(len(corners), 8, 2).astype(np.float64)
    middle, mean = seen.mean(1), VERTICES.mean(0)
    about, own = seen - middle[:, None], VERTICES - mean
    angle = np.arctan2(
        (own[:, 0] * about[..., 1] - own[:, 1] * about[..., 0]).sum(1), (own * about).sum((1, 2))
    ) % (2 * np.pi)
    shift = np.stack(
        [
            np.cos(angle) * mean[0] - np.sin(angle) * mean[1],
            np.sin(angle) * mean[0] + np.cos(angle) * mean[1],
        ],
        axis=1,
    )
    states = np.concatenate([agents, middle - shift, angle[:, None]], axis=1)
    wrong = np.abs(vertices(states) - seen).max((1, 2))
    if wrong.max() > 2.0:
        raise ValueError(
            f"row {int(wrong.argmax())} is not the T's eight corners in gym-pusht's order, by {wrong.max():.0f} px"
        )
    return states


def _placed(states: np.ndarray, points: np.ndarray) -> np.ndarray:
    angle = states[..., 4, None]
    turned_x = np.cos(angle) * points[:, 0] - np.sin(angle) * points[:, 1]
    turned_y = np.sin(angle) * points[:, 0] + np.cos(angle) * points[:, 1]
    return np.stack([states[..., 2, None] + turned_x, states[..., 3, None] + turned_y], axis=-1)


def keypoint_observation(states: Float[np.ndarray, "*B 5"]) -> Float[np.ndarray, "*B 20"]:
    """The published low-dimensional observation: nine keypoints, x and y in turn, then the agent's position."""
    return np.concatenate([keypoints(states).reshape(*states.shape[:-1], 18), states[..., :2]], axis=-1)
