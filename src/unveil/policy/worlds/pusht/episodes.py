"""Many episodes of PushT at once, by the published protocol, with gym-pusht's physics."""

import os
import warnings
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8

from unveil.policy.worlds.pusht.block import STEPS, initial_state

os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")  # pygame prints a greeting otherwise
with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of pygame and gymnasium about other packages
    from gym_pusht.envs.pusht import PushTEnv

PIXELS = 96  # side of an observed picture in pixels


class PushTEpisodes:
    """`count` episodes in lock-step; each runs until its coverage exceeds 0.95, or for 300 steps of 0.1 s.

    Actions are positions (x, y) in 0 .. 512 that the agent is attracted to. The reward of a step is
    clip(coverage / 0.95, 0, 1), where coverage is the fraction of the target that the block covers; an
    episode's score is its largest reward.

    Episode i starts as the published environment does for seed + i: `initial_state`, the block's position set
    before its angle, one step of 0.01 s. As the block rotates about its centre of mass, which is not its
    origin, that order moves it by up to 90 px; it is kept because the published results have it. `reset_to`
    sets the angle first and so reaches exactly the state.

    Attributes:
        states: agent x, y, block x, y in pixels, angle in [0, 2 pi).
        rewards, coverage: those of the last step; the reward is 0 where the episode was over before it.
        best: the largest reward so far.
        running, solved: episodes that are not over, and those whose coverage exceeded 0.95.

    Raises:
        ValueError: count < 1 or seed < 0.
    """

    states: Float[np.ndarray, "B 5"]
    rewards: Float[np.ndarray, " B"]
    coverage: Float[np.ndarray, " B"]
    best: Float[np.ndarray, " B"]
    running: Bool[np.ndarray, " B"]
    solved: Bool[np.ndarray, " B"]
    lengths: Int[np.ndarray, " B"]

    def __init__(self, count: int, seed: int, steps: int = STEPS) -> None:
        if count < 1 or steps < 1:
            raise ValueError(
                f"PushT episodes: count and steps of at least 1 are needed, got {count} and {steps}"
            )
        self.count, self.steps = count, steps
        self._worlds: list[Any] = [  # gym_pusht has no stubs
            PushTEnv(obs_type="state", observation_width=PIXELS, observation_height=PIXELS)
            for _ in range(count)
        ]
        self.reset(seed)

    def reset(self, seed: int) -> Float[np.ndarray, "B 5"]:
        """Restart all episodes, episode i with seed + i; returns the states."""
        if seed < 0:
            raise ValueError(f"PushT episodes: seed >= 0 is needed, got {seed}")
        for i, world in enumerate(self._worlds):
            state = initial_state(seed + i)
            world._setup()
            world.agent.position = tuple(state[:2].tolist())
            world.block.position = tuple(state[2:4].tolist())
            world.block.angle = float(state[4])
            world.space.step(world.dt)
        return self._begun()

    def reset_to(self, states: Float[np.ndarray, "B 5"]) -> Float[np.ndarray, "B 5"]:
        """Start all episodes at rest in these states, such as recorded ones.

        Raises:
            ValueError: states of another shape, or not finite.
        """
        if states.shape != (self.count, 5) or not np.isfinite(states).all():
            raise ValueError(
                f"PushT: finite states of shape {(self.count, 5)} are needed, got shape {states.shape}"
            )
        for world, state in zip(self._worlds, states.astype(np.float64), strict=True):
            world._setup()
            world.agent.position = tuple(state[:2].tolist())
            world.block.angle = float(state[4])  # before the position, which it changes
            world.block.position = tuple(state[2:4].tolist())
            for body in (world.agent, world.block):
                world.space.reindex_shapes_for_body(body)
        return self._begun()

    def step(self, actions: Float[np.ndarray, "B 2"]) -> Float[np.ndarray, "B 5"]:
        """Move the agents of the running episodes towards `actions` for 0.1 s; returns the states.

        Raises:
            ValueError: actions of another shape, or not finite where the episode runs.
        """
        if actions.shape != (self.count, 2):
            raise ValueError(f"PushT: actions of shape {(self.count, 2)} are needed, got {actions.shape}")
        rows = np.flatnonzero(self.running)
        if not np.isfinite(actions[rows]).all():
            raise ValueError("PushT: actions must be finite numbers")
        self.rewards = np.zeros(self.count)
        for i in rows.tolist():
            state, self.rewards[i], self.solved[i], _, info = self._worlds[i].step(
                actions[i].astype(np.float64)
            )
            self.states[i], self.coverage[i] = state, info["coverage"]
        self.best = np.maximum(self.best, self.rewards)
        self.lengths[rows] += 1
        self.running &= ~self.solved & (self.lengths < self.steps)
        return self.states.copy()

    def pictures(self, size: int = PIXELS, first: int | None = None) -> UInt8[np.ndarray, "N S S 3"]:
        """The scenes, or the `first` ones, from above: target, block and agent.

        Size 96 is that of the published pixel observation.
        """
        return np.stack([world._get_img(world._draw(), size, size) for world in self._worlds[:first]])

    def _begun(self) -> np.ndarray:
        self.states = np.stack([world.get_obs() for world in self._worlds])
        self.running, self.solved = np.ones(self.count, dtype=bool), np.zeros(self.count, dtype=bool)
        self.rewards, self.best = np.zeros(self.count), np.zeros(self.count)
        self.coverage = np.array([float(world._get_coverage()) for world in self._worlds])
        self.lengths = np.zeros(self.count, dtype=np.int64)
        return self.states.copy()
