"""Replay of recorded PushT actions: deviation from the recorded states, and the demonstrators' score."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from unveil.policy.data.demonstrations import Demonstrations
from unveil.policy.worlds.pusht.episodes import PushTEpisodes


class Replay(NamedTuple):
    """One demonstration, replayed.

    Args:
        errors: (L,) px, the largest difference of the agent's and the block's x and y from each recorded
            state; the first is 0.
        reward, coverage: the largest over all steps.
    """

    errors: Float[np.ndarray, " L"]
    reward: float
    coverage: float


def replayed(demonstrations: Demonstrations, episode: int) -> Replay:
    """Execute the recorded actions open loop, from the first recorded `state`, at rest.

    Velocities are not recorded. The state after an episode's last action is not recorded; that action only
    counts for the reward. An episode that is solved before its recorded end is compared until then.
    """
    rows = slice(int(demonstrations.starts[episode]), int(demonstrations.episode_ends[episode]))
    states = demonstrations.observations["state"][rows].astype(np.float64)
    actions = demonstrations.actions[rows].astype(np.float64)
    world = PushTEpisodes(1, 0, steps=len(actions))
    reached, coverage = [world.reset_to(states[:1])[0]], float(world.coverage[0])
    for action in actions:
        reached.append(world.step(action[None])[0])
        coverage = max(coverage, float(world.coverage[0]))
        if not world.running[0]:
            break
    count = min(len(reached), len(states))
    errors = np.abs(np.stack(reached[:count]) - states[:count])[:, :4].max(axis=1)
    return Replay(errors, float(world.best[0]), coverage)
