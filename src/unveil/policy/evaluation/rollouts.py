"""Episodes of any environment, several at the same time."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Float, Int

from unveil.errors import UnveilError, one_line
from unveil.policy.worlds.environments.spaces import Box, Environment, Reader, within
from unveil.runs.statistics import mean_ci95, wilson_ci95

SUCCESS = ("is_success", "success")  # in `info`


@runtime_checkable
class Acts(Protocol):
    """The common interface of `Policy` and `RealTimePolicy`."""

    def reset(self, rows: Bool[np.ndarray, " B"] | None = None) -> None: ...
    def act(self, observations: object) -> Float[np.ndarray, "*B A"]: ...


@dataclass
class Rollouts:
    """What happened in N episodes.

    Attributes:
        returns: sums of rewards.
        lengths: numbers of steps.
        solved: whether the environment reported a success at any step; meaningless unless `reported`.
        reported: it reports successes at all.
        clipped, acted: actions beyond the limits of the environment, which were clipped, and all actions.
        last: the last observations, as a batch.
    """

    returns: Float[np.ndarray, " N"]
    lengths: Int[np.ndarray, " N"]
    solved: Bool[np.ndarray, " N"]
    reported: bool = False
    clipped: int = 0
    acted: int = 0
    last: object = field(default=None)


def roll(
    environments: Sequence[Environment],
    read: Reader,
    policy: Acts,
    episodes: int,
    seed: int,
    max_steps: int,
    on_step: Callable[[Rollouts, list[int], list[bool]], None] | None = None,
) -> Rollouts:
    """Run episodes 0 .. N - 1, episode i reset with seed + i; a free environment begins the next one.

    Args:
        on_step: called with the result so far and, for each environment, the episode that it shows and
            whether that is running, before the actions are executed.
    Raises:
        UnveilError: the environment fails, or its observations do not fit the policy.
    """
    count = len(environments)
    done = Rollouts(np.zeros(episodes), np.zeros(episodes, np.int64), np.zeros(episodes, bool))
    shown, begun = list(range(count)), count
    running = [True] * count
    policy.reset()
    seen = [_reset(it, read, seed + i) for i, it in enumerate(environments)]
    space = environments[0].action_space
    assert isinstance(space, Box)
    while any(running):
        done.last = batched(seen)
        try:
            actions = np.atleast_2d(policy.act(done.last))
        except ValueError as error:
            if "policy: observation" not in str(error):
                raise
            raise UnveilError(
                f"{error}; the environment's fields are assigned to names by `mapping`"
            ) from error
        if on_step is not None:
            on_step(done, shown, running)
        fresh = np.zeros(count, bool)
        for i, environment in enumerate(environments):
            if not running[i]:
                continue
            action, outside = within(space, actions[i])
            done.acted, done.clipped = done.acted + 1, done.clipped + outside
            episode = shown[i]
            observation, reward, terminated, truncated, info = _stepped(environment, action)
            done.returns[episode] += float(reward)
            done.lengths[episode] += 1
            for name in SUCCESS:
                if name in info:
                    done.reported = True
                    done.solved[episode] |= bool(np.asarray(info[name]).any())
            if not (terminated or truncated or done.lengths[episode] >= max_steps):
                seen[i] = read.read(observation, environment)
            elif begun < episodes:
                shown[i], fresh[i] = begun, True
                seen[i] = _reset(environment, read, seed + begun)
                begun += 1
            else:
                running[i] = False
        if fresh.any():
            policy.reset(fresh)
    return done


def rollout_metrics(done: Rollouts) -> dict[str, float]:
    """Success with Wilson's interval where it is reported, return and length."""
    metrics: dict[str, float] = {}
    count = len(done.returns)
    if done.reported:
        low, high = wilson_ci95(int(done.solved.sum()), count)
        metrics |= {"success_rate": float(done.solved.mean()), "success_low": low, "success_high": high}
    mean, interval = mean_ci95(done.returns)
    metrics |= {"return_mean": mean, "return_ci95": interval, "length_mean": float(done.lengths.mean())}
    return metrics | {"clipped_share": done.clipped / max(1, done.acted), "n": count}


def batched(seen: Sequence[dict[str, np.ndarray] | np.ndarray]) -> dict[str, np.ndarray] | np.ndarray:
    """The observations of several environments as one batch."""
    first = seen[0]
    if isinstance(first, dict):
        return {name: np.stack([np.atleast_1d(it[name]) for it in seen]) for name in first}  # pyright: ignore[reportCallIssue, reportArgumentType]
    return np.stack([np.reshape(it, -1) for it in seen])  # pyright: ignore[reportArgumentType, reportCallIssue]


def _reset(environment: Environment, read: Reader, seed: int) -> dict[str, np.ndarray] | np.ndarray:
    try:
        observation, _ = environment.reset(seed=seed)
    except Exception as error:  # their code raises anything
        raise UnveilError(f"the environment cannot be reset: {one_line(str(error))}") from error
    return read.read(observation, environment)


def _stepped(
    environment: Environment, action: np.ndarray
) -> tuple[object, float, bool, bool, dict[str, object]]:
    try:
        observation, reward, terminated, truncated, info = environment.step(action)
    except Exception as error:
        raise UnveilError(f"the environment cannot step: {one_line(str(error))}") from error
    return observation, float(reward), bool(terminated), bool(truncated), dict(info)
