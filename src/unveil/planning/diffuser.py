"""Diffuser as published for mazes: one plan of a fixed length for each body, tracked by a simple controller.

Janner et al. 2022, sections 3 and 5.1, and the released `maze2d` branch. A plan is a trajectory of states and
actions whose first state and last state (the goal, at rest) are known. The network predicts x_0, sampling
takes all T steps, x_0 is clipped to the data's limits, and the actions of the plan are not used.
"""

from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from unveil.arrays import axes_of, numbers
from unveil.checks import kind, whole
from unveil.planning.plan import Plan
from unveil.planning.trajectory_inputs import check_units, noise_in
from unveil.planning.trajectory_model import TrajectoryModel, TrajectoryShape
from unveil.process.grid import uniform
from unveil.sampling.edit import Inpaint
from unveil.sampling.gaussian import Ancestral
from unveil.sampling.guidance import clipped
from unveil.sampling.loop import sample
from unveil.sampling.noise import Noise, Recorded, generators, normal_like

POSITION, ACTION, STATE = 2, 2, 4  # a row is (action (2), position (2), velocity (2))


def maze_shape(
    horizon: int,
    diffusion_steps: int,
    width: int = 32,
    multiples: tuple[int, ...] = (1, 4, 8),
    attention: bool = False,
    predicts: Literal["x0", "eps"] = "x0",
) -> TrajectoryShape:
    """The sizes of the released `config/maze2d.py`: a temporal U-Net of three levels."""
    return TrajectoryShape(horizon, diffusion_steps, ACTION, STATE, width, multiples, attention, predicts)


def ends_known(horizon: int) -> Tensor:
    """(1, H, 6) bool: the known numbers of a plan, the states of its first and last row."""
    known = torch.zeros((1, horizon, ACTION + STATE), dtype=torch.bool, device="cpu")
    known[:, [0, -1], ACTION:] = True
    return known


class Diffuser:
    """Plan once for each body and track the plan: action = (next position - position) + (next velocity -
    velocity).

    After the end of a plan its last row, at rest at the goal, is the target. The interface is that of
    `Planner`, and so are its random generators: the n-th body, counted over calls of `reset`, has seed + n,
    and so has the n-th call of `plan`.

    Args:
        model: a model of state-action trajectories of a maze.
        seed: seed of the noise of the first body and of the first plan, at least 0.
    Raises:
        ValueError: a model of other trajectories, or a seed below 0.
    """

    def __init__(self, model: TrajectoryModel, *, seed: int = 0) -> None:
        kind("diffuser: model", model, TrajectoryModel)
        if (model.shape.actions, model.shape.observations, model.shape.inverse) != (ACTION, STATE, False):
            raise ValueError(
                f"diffuser: rows of {ACTION} actions and {STATE} observations are needed, got "
                f"{model.shape.actions} and "
                f"{model.shape.observations}"
            )
        self.model = model.eval()
        self.device = model.normalization.low.device
        self._seed = whole("diffuser: seed", seed, 0, 2**62)
        self._plans = self._first = 0  # calls of `plan`; the number of body 0 since `reset`
        self._begun = False
        self._states = np.zeros((0, model.shape.horizon, STATE))
        self._goals = np.zeros((0, POSITION))
        self._step, self._single = 0, True
        self.plans: list[Plan | None] = []
        self.replans = 0

    def plan(
        self,
        start: Float[np.ndarray, "4"],
        goal: Float[np.ndarray, "2"],
        normalized: bool = False,
        *,
        noise: np.ndarray | Tensor | None = None,
    ) -> Plan:
        """Plan from a state to a goal.

        Args:
            start: (x, y, vx, vy).
            goal: (x, y).
            normalized: whether start, goal and plan are in normalised units instead of the data's.
            noise: (H, 6), recorded standard normal noise, used instead of drawn initial noise;
                or (1 + T, H, 6): the initial noise, then the noise of each of the T steps (that of the last
                step is not used, and may be left out).
        Raises:
            ValueError: another shape, or numbers that are not finite.
            UnveilError: in the data's units, but the model lacks the statistics of its data.
        """
        begin = numbers("diffuser: plan's start", start, (STATE,), f"({STATE},)")[None]
        end = numbers("diffuser: plan's goal", goal, (POSITION,), f"({POSITION},)")[None]
        shape = (self.model.shape.horizon, ACTION + STATE)
        recorded = None if noise is None else noise_in(noise, shape, what="diffuser")
        own = generators(self._seed, 1, self._plans)
        self._plans += 1
        return self._described(self._sample(begin, end, own, normalized, recorded))[0]

    def reset(self, goal: Float[np.ndarray, "*B 2"]) -> None:
        """Forget all plans. From now on go to one goal, or to one goal for each of B bodies.

        Raises:
            ValueError: another shape, or numbers that are not finite.
        """
        single = axes_of(goal) == 1
        letters = f"({POSITION},) or (B, {POSITION})"
        goals = numbers(
            "diffuser: reset's goal", goal, (POSITION,) if single else (None, POSITION), letters
        ).astype(np.float64)
        self._first += len(self._goals) * self._begun
        self._single, self._begun = single, False
        self._goals, self._step = np.atleast_2d(goals), 0
        self.plans = [None] * len(self._goals)
        self.replans = 0

    def act(self, observation: Float[np.ndarray, "*B 4"]) -> Float[np.ndarray, "*B 2"]:
        """Force in [-1, 1] for an observation (x, y, vx, vy). The first call plans for all bodies.

        Raises:
            ValueError: no goal yet, another shape, or numbers that are not finite.
        """
        if not len(self._goals):
            raise ValueError("diffuser.act: no goal yet; call reset(goal) first")
        shape = (STATE,) if self._single else (len(self._goals), STATE)
        seen = np.atleast_2d(
            numbers("diffuser: observation (x, y, vx, vy)", observation, shape, str(shape)).astype(np.float64)
        )
        if self._step == 0:
            self._states = self._sample(seen, self._goals, generators(self._seed, len(seen), self._first))
            self.plans = list(self._described(self._states))
            self._begun = True
        target = self._states[:, min(self._step + 1, self.model.shape.horizon - 1)]
        self._step += 1
        force = np.clip((target - seen)[:, :POSITION] + (target - seen)[:, POSITION:], -1.0, 1.0)
        return force[0] if self._single else force

    @torch.inference_mode()
    def _sample(
        self,
        starts: np.ndarray,
        goals: np.ndarray,
        own: Sequence[torch.Generator],
        normalized: bool = False,
        recorded: Tensor | None = None,
        rows: int = 100,
    ) -> np.ndarray:
        """States (N, H, 4) of plans, in the data's units or normalised."""
        model, horizon = self.model, self.model.shape.horizon
        check_units(model, normalized)
        times = uniform(model.shape.diffusion_steps)
        blocks: list[np.ndarray] = []
        for first in range(0, len(starts), rows):
            start, goal = starts[first : first + rows], goals[first : first + rows]
            value = torch.zeros((len(start), horizon, ACTION + STATE), device=self.device)
            value[:, 0, ACTION:] = torch.from_numpy(start).to(value)
            value[:, -1, ACTION : ACTION + POSITION] = torch.from_numpy(goal).to(value)
            value = value if normalized else model.normalization.normalized(value)
            edit = Inpaint(ends_known(horizon).to(self.device), value)
            denoise = clipped(model.denoiser, -1.0, 1.0)
            source: Noise = own[first : first + rows]
            noise = normal_like(value, source) if recorded is None else recorded[0].to(self.device)
            if recorded is not None and len(recorded) > 1:
                # the step to t = 0 adds no noise, so its noise may be left out
                unused = [torch.zeros_like(recorded[0])] * (len(recorded) == len(times) - 1)
                source = Recorded([*recorded[1:], *unused])
            x = sample(denoise, Ancestral(model.denoiser.schedule), noise, times, edit=edit, generator=source)
            x = x if normalized else model.normalization.denormalized(x)
            blocks.append(x[..., ACTION:].cpu().double().numpy())
        states = np.concatenate(blocks)
        if not np.isfinite(states).all():
            raise ValueError(
                "diffuser: plans are not finite; the weights are damaged, or start and goal lie far outside "
                "their data"
            )
        return states

    def _described(self, states: np.ndarray) -> list[Plan]:
        times = np.arange(states.shape[1], dtype=float)
        lengths, none = np.array([states.shape[1]]), np.zeros(1)
        plans = []
        for path in states[..., :POSITION]:
            near = np.linalg.norm(path - path[-1], axis=1) <= 0.5
            plans.append(Plan(path, path, times, float(near.argmax()), path[None], lengths, none, 0))
        return plans
