"""Returns and D4RL's normalised scores of locomotion episodes, which are stepped together."""

from collections.abc import Callable
from time import perf_counter

import numpy as np
from jaxtyping import Float

from unveil.planning.worlds.locomotion.body import Body, normalized_score
from unveil.planning.worlds.locomotion.episodes import LocomotionEpisodes
from unveil.runs.statistics import mean_ci95

Act = Callable[..., Float[np.ndarray, "B A"]]
"""(observations (B, D), and with `only_running` the keyword `episodes` (B,)) -> actions (B, A)."""


def roll(
    world: LocomotionEpisodes,
    act: Act,
    longest: int | None = None,
    on_step: Callable[[int], None] | None = None,
    only_running: bool = False,
) -> None:
    """Act until all episodes are over, or for `longest` environment steps.

    `act` gets the observations of all episodes, including finished ones; with `only_running` those of running
    episodes, and the numbers of these as `episodes`, as `GuidedPlanner.act` takes them.
    """
    for step in range(world.body.steps if longest is None else longest):
        if not world.running.any():
            break
        if only_running:
            chosen = act(world.observations[world.running], episodes=np.flatnonzero(world.running))
            actions = np.zeros((world.count, *chosen.shape[1:]), chosen.dtype)
            actions[world.running] = chosen
        else:
            actions = act(world.observations)
        world.step(actions)
        if on_step is not None:
            on_step(step + 1)


def locomotion_metrics(world: LocomotionEpisodes) -> dict[str, float]:
    """Return, D4RL's normalised score and length over the episodes, with 95 % intervals."""
    scores = normalized_score(world.body, world.returns)
    metrics: dict[str, float] = {}
    for name, values in (("return", world.returns), ("score", scores)):
        metrics[f"{name}_mean"], metrics[f"{name}_ci95"] = mean_ci95(values)
    metrics |= {
        "length_mean": float(world.lengths.mean()),
        "fall_rate": float(world.terminated.mean()),
        "n": world.count,
    }
    return metrics


def decisions_per_second(
    body: Body, act: Act, reset: Callable[[], None], count: int, seed: int, version: str = "v5"
) -> float:
    """Decisions per second in one environment, one after another, including the first of the episode."""
    world = LocomotionEpisodes(body, 1, seed, "v4" if version == "v4" else "v5")
    reset()
    spent = 0.0
    for _ in range(count):
        if not world.running.any():
            world.reset(seed)
            reset()
        began = perf_counter()
        action = act(world.observations)
        spent += perf_counter() - began
        world.step(action)
    return count / spent
