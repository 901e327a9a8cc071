"""The Maze2D protocol: many episodes, stepped together, with D4RL's reward, and their metrics."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from unveil.planning.worlds.maze.episodes import MazeEpisodes
from unveil.planning.worlds.maze.layout import Layout
from unveil.runs.statistics import mean_ci95

Act = Callable[[np.ndarray], np.ndarray]
BLOCK = 300  # episodes that are drawn from one seed: the default number of the protocol


@dataclass(frozen=True)
class MazeRollout:
    """N episodes of T steps.

    Args:
        observations: (T + 1, N, 4), x, y, vx, vy.
        rewards: (T, N), 1 within 0.5 of the goal after the step.
        goals: (N, 2).
    """

    observations: Float[np.ndarray, "T1 N 4"]
    rewards: Float[np.ndarray, "T N"]
    goals: Float[np.ndarray, "N 2"]

    @property
    def arrived(self) -> Bool[np.ndarray, " N"]:
        """Whether an episode has any reward."""
        return np.asarray(self.rewards.any(0))

    @property
    def arrival(self) -> Float[np.ndarray, " N"]:
        """Environment steps until the first reward, counted from 1; T without any."""
        return np.where(self.arrived, self.rewards.argmax(0) + 1.0, float(len(self.rewards)))


def starting_states(layout: Layout, multi: bool, episodes: int, seed: int) -> MazeEpisodes:
    """The episodes of the protocol after their reset. The same seed gives the same starts and goals, and
    fewer episodes are the first ones of more.

    Blocks of `BLOCK` episodes have seeds of their own; that of the first block is `seed`.
    """
    world, block = MazeEpisodes(layout, episodes), MazeEpisodes(layout, BLOCK)
    for first in range(0, episodes, BLOCK):
        some = slice(first, min(first + BLOCK, episodes))
        block.reset(np.random.default_rng([seed, first] if first else seed), multi)
        world.state[some], world.goal[some] = (
            block.state[: some.stop - first],
            block.goal[: some.stop - first],
        )
    return world


def roll(world: MazeEpisodes, act: Act, on_step: Callable[[int], None] | None = None) -> MazeRollout:
    """Act in all episodes, up to the length of the layout. `act` maps observations (N, 4) to forces (N,
    2)."""
    observations, rewards = [world.state.copy()], []
    for t in range(world.layout.steps):
        seen, reward = world.step(act(observations[-1]))
        observations.append(seen)
        rewards.append(reward)
        if on_step is not None:
            on_step(t + 1)
    return MazeRollout(np.stack(observations), np.stack(rewards), world.goal.copy())


def maze_metrics(layout: Layout, rollout: MazeRollout) -> dict[str, float]:
    """Score, latched score (every step after the first reward has a reward, as in some tables), success,
    arrival, and sample size.

    A layout without published score constants has `return_mean` instead of the score.
    """
    returns = rollout.rewards.sum(0)
    latched = np.maximum.accumulate(rollout.rewards, axis=0).sum(0)
    name, scale = ("score", layout.score) if layout.score_range else ("return", lambda r: r)
    score, interval = mean_ci95(scale(returns))
    return {
        f"{name}_mean": score,
        f"{name}_ci95": interval,
        f"latched_{name}_mean": float(np.mean(scale(latched))),
        "success_rate": float(rollout.arrived.mean()),
        "arrival_step_mean": float(rollout.arrival.mean()),
        "n": len(returns),
    }
