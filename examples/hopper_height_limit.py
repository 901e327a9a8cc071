"""The Hopper under a height limit that is in no reward of its data: a cost of the plan, beside the value.

python examples/hopper_height_limit.py
"""

import numpy as np
from torch import Tensor

import unveil
from unveil.planning.evaluation.locomotion import roll
from unveil.planning.worlds.locomotion.body import body_of
from unveil.planning.worlds.locomotion.episodes import LocomotionEpisodes

LIMIT = 1.45  # metres; free hops reach 1.5 after a second, and 1.7 soon after


def too_high(plan: Tensor) -> Tensor:
    """Clean plans (N, H, 3 torques + 11 observations) to (N,); observation 0 is the height in metres."""
    height = plan[..., 3]
    return (height - (LIMIT - 0.05)).clamp(min=0).square().sum(-1)


def measured(limited: bool, episodes: int, steps: int) -> dict[str, float]:
    """Heights and returns of episodes from seed 0 on, with the limit or without."""
    planner = unveil.load("hopper-medium-expert", preset="default", batch_size=4, plan_horizon=32)
    if limited:
        planner.steer = unveil.costing(planner.model, too_high, scale=300.0, until=0.5)
    world = LocomotionEpisodes(body_of("hopper"), episodes, seed=0)
    seen: list[np.ndarray] = []
    roll(
        world,
        planner.act,
        steps,
        lambda _: seen.append(np.where(world.running, world.observations[:, 0], np.nan)),
    )
    heights = np.array(seen)
    heights = heights[np.isfinite(heights)]
    above = float((heights > LIMIT).mean())
    return {
        "highest": heights.max(),
        "mean": heights.mean(),
        "above": above,
        "return": world.returns.mean(),
        "fell": world.terminated.mean(),
    }


def main(episodes: int = 8, steps: int = 250) -> dict[str, dict[str, float]]:
    results = {name: measured(name == "limited", episodes, steps) for name in ("free", "limited")}
    for name, r in results.items():
        print(
            f"{name:<8} highest {r['highest']:.2f} m, mean {r['mean']:.2f} m, "
            f"above {LIMIT} m {r['above']:.1%} of the time; ",
            end="",
        )
        print(f"return {r['return']:.0f} in {steps} steps, {r['fell']:.0%} fell")
    return results


if __name__ == "__main__":
    main()
