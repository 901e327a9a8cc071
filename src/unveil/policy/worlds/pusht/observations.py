"""Observations of policies on PushT."""

import numpy as np

from unveil.errors import UnveilError
from unveil.policy.worlds.pusht.block import keypoint_observation, vertices
from unveil.policy.worlds.pusht.episodes import PushTEpisodes


def seen(observation: str, world: PushTEpisodes) -> np.ndarray:
    """Observations (B, D) of the scenes, for a policy.

    Args:
        observation: keypoints (20), state (5), agent (2), vertices (16), picture (27,648: channels, rows,
            columns of 0 .. 255), or several of these joined by "+"; pixels is agent+picture.
    Raises:
        UnveilError: an observation that PushT does not have.
    """
    looks = {
        "keypoints": lambda: keypoint_observation(world.states),
        "state": lambda: world.states,
        "agent": lambda: world.states[:, :2],
        "vertices": lambda: vertices(world.states).reshape(world.count, -1),
        "picture": lambda: world.pictures().transpose(0, 3, 1, 2).reshape(world.count, -1),
    }
    names = "agent+picture" if observation == "pixels" else observation
    if not looks.keys() >= set(names.split("+")):
        raise UnveilError(
            "this policy was made for other observations than PushT's keypoints, vertices, state or "
            "pictures; use unveil.load(PATH).act(observations)"
        )
    return np.concatenate([looks[name]() for name in names.split("+")], axis=1)
