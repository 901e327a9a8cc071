"""Scores on PushT: all episodes step together; decision times are measured with one environment."""

from collections.abc import Callable
from time import perf_counter
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float

from unveil.policy.worlds.pusht.episodes import PushTEpisodes
from unveil.runs.statistics import mean_ci95

See = Callable[[PushTEpisodes], Float[np.ndarray, "B D"]]  # the policy's observations of the scenes
Act = Callable[[Float[np.ndarray, "B D"]], Float[np.ndarray, "B 2"]]


@runtime_checkable
class Decides(Protocol):
    """The common interface of `Policy` and `RealTimePolicy`."""

    @property
    def decisions(self) -> int: ...
    def reset(self) -> None: ...
    def act(self, observations: Float[np.ndarray, "B D"]) -> Float[np.ndarray, "B A"]: ...


def roll(world: PushTEpisodes, see: See, act: Act, on_step: Callable[[int], None] | None = None) -> None:
    """Act until all episodes are over; `act` gets all rows, including those of finished episodes.

    Args:
        on_step: called with the number of steps so far, after `act` and before the actions are executed.
    """
    for step in range(world.steps):
        if not world.running.any():
            break
        actions = act(see(world))
        if on_step is not None:
            on_step(step)
        world.step(actions)


def pusht_metrics(world: PushTEpisodes) -> dict[str, float]:
    """The published score, the mean over episodes of the largest reward, and the share of solved episodes."""
    mean, interval = mean_ci95(world.best)
    return {
        "score_mean": mean,
        "score_ci95": interval,
        "success_rate": float(world.solved.mean()),
        "length_mean": float(world.lengths.mean()),
        "n": world.count,
    }


def decision_times(policy: Decides, see: See, count: int, seed: int) -> Float[np.ndarray, " N"]:
    """Wall time in milliseconds, from observation to actions, of `count` decisions of one environment.

    Only calls that predict are timed; taking an action from the queue costs microseconds. The first decision,
    a warm-up, is left out.
    """
    world = PushTEpisodes(1, seed)
    policy.reset()
    spent: list[float] = []
    while len(spent) <= count:
        if not world.running.any():
            seed += 1
            world.reset(seed)
            policy.reset()
        decided, began = policy.decisions, perf_counter()
        action = policy.act(see(world))
        took = perf_counter() - began
        if policy.decisions > decided:
            spent.append(1e3 * took)
        world.step(action)
    policy.reset()
    return np.array(spent[1:])
