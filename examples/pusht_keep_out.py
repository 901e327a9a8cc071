"""PushT around a keep-out zone that no demonstration avoided: a cost of the chunk of actions, same weights.

python examples/pusht_keep_out.py pusht-keypoints
"""

import sys

import numpy as np
from torch import Tensor

import unveil
from unveil.policy.evaluation.pusht import roll
from unveil.policy.worlds.pusht.block import keypoint_observation
from unveil.policy.worlds.pusht.episodes import PushTEpisodes

CENTRE, RADIUS = (330.0, 330.0), 60.0  # pixels of 512; the agent is a disc of radius 15
MARGIN = 15.0  # the agent lags behind its targets, and swings past them


def inside(chunk: Tensor) -> Tensor:
    """Clean chunks (N, H, 2) of targets in pixels to (N,): squared depth in the disc, in radii, summed."""
    distance = ((chunk - chunk.new_tensor(CENTRE)).square().sum(-1) + 1e-6).sqrt()
    return ((RADIUS + MARGIN - distance) / RADIUS).clamp(min=0).square().sum(-1)


def measured(checkpoint: str, steered: bool, scale: float, episodes: int, steps: int) -> dict[str, float]:
    """How often the agent is in the disc, and the score, of episodes from seed 0 on."""
    policy = unveil.load(checkpoint, "cpu", sampling_steps=10)
    if steered:
        policy.steer = unveil.costing(policy.model, inside, scale=scale, until=0.95)
    world = PushTEpisodes(episodes, 0, steps)
    keypoints = policy.model.shape.observations == 20
    within: list[np.ndarray] = []

    def look(_: int) -> None:
        distance = np.linalg.norm(world.states[:, :2] - CENTRE, axis=1)
        within.append(np.where(world.running, distance < RADIUS, np.nan))

    roll(world, lambda w: keypoint_observation(w.states) if keypoints else w.states, policy.act, look)
    violated = np.array(within)
    return {
        "steps": float(np.nanmean(violated)),
        "episodes": float((np.nan_to_num(violated) > 0).any(0).mean()),
        "score": float(world.best.mean()),
    }


def main(
    checkpoint: str = "pusht-keypoints", scale: float = 10.0, episodes: int = 20, steps: int = 300
) -> dict[str, dict[str, float]]:
    results = {
        name: measured(checkpoint, name == "steered", scale, episodes, steps) for name in ("free", "steered")
    }
    for name, r in results.items():
        print(
            f"{name:<8} in the zone {r['steps']:.1%} of all steps and in {r['episodes']:.0%} of episodes; "
            f"score {r['score']:.3f}"
        )
    return results


if __name__ == "__main__":
    main(*sys.argv[1:2])
