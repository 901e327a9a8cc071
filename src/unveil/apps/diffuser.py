"""Diffuser as published for mazes: whole state-action trajectories of a fixed length, planned once, tracked by a simple controller.

Janner et al. 2022, sections 3 and 5.1, and the released `maze2d` branch: the start and the goal (at rest) are known positions, the network
predicts x_0, every one of the T steps is taken, x_0 is clipped to the data's limits, the model's own actions are not used.
"""

from typing import Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from unveil.apps.plan import Plan
from unveil.apps.trajectory_model import TrajectoryModel, TrajectoryShape
from unveil.errors import UnveilError
from unveil.process.grid import uniform
from unveil.sampling.edit import Inpaint
from unveil.sampling.gaussian import Ancestral
from unveil.sampling.guidance import clipped
from unveil.sampling.loop import sample

POSITION, ACTION, STATE = 2, 2, 4  # numbers of a row: action (2), then position (2) and velocity (2)


def maze_shape(
    horizon: int,
    diffusion_steps: int,
    width: int = 32,
    multiples: tuple[int, ...] = (1, 4, 8),
    attention: bool = False,
    predicts: Literal["x0", "eps"] = "x0",
) -> TrajectoryShape:
    """The released `config/maze2d.py`: H, T, and a temporal U-Net of three levels."""
    return TrajectoryShape(horizon, diffusion_steps, ACTION, STATE, width, multiples, attention, predicts)


def ends_known(horizon: int) -> Tensor:
    """(1, H, 6) bool: the states of the first and of the last row."""
    known = torch.zeros((1, horizon, ACTION + STATE), dtype=torch.bool, device="cpu")
    known[:, [0, -1], ACTION:] = True
    return known


class Diffuser:
    """Plans once for each body and tracks the plan: action = (next position - position) + (next velocity - velocity).

    After the plan's end its last row, at rest at the goal, stays the target. The interface is that of `Planner`.
    """

    def __init__(self, model: TrajectoryModel, *, seed: int = 0) -> None:
        self.model = model.eval()
        self.device = model.normalization.low.device
        self._generator = torch.Generator(device="cpu").manual_seed(seed)
        self._states = np.zeros((0, model.shape.horizon, STATE))
        self._goals = np.zeros((0, POSITION))
        self._step, self._single = 0, True
        self.plans: list[Plan | None] = []
        self.replans = 0

    def plan(self, start: Float[np.ndarray, "4"], goal: Float[np.ndarray, "2"], normalized: bool = False) -> Plan:
        """One plan from a state to a goal.

        Args:
            normalized: both and the plan are in normalised units instead of the data's.
        Raises:
            UnveilError: in the data's units, but the weights came without the data's statistics.
        """
        return self._described(self._sample(np.atleast_2d(start), np.atleast_2d(goal), normalized))[0]

    def reset(self, goal: Float[np.ndarray, "*B 2"]) -> None:
        """Forget all plans; from now on go to one goal, or to one for each of B bodies."""
        goals = np.asarray(goal, float)
        self._single = goals.ndim == 1
        self._goals, self._step = np.atleast_2d(goals), 0
        self.plans = [None] * len(self._goals)
        self.replans = 0

    def act(self, observation: Float[np.ndarray, "*B 4"]) -> Float[np.ndarray, "*B 2"]:
        """Force in [-1, 1] for (x, y, vx, vy); the first call plans for all bodies.

        Raises:
            ValueError: no goal yet.
        """
        if not len(self._goals):
            raise ValueError("diffuser.act: no goal yet; call reset(goal) first")
        seen = np.atleast_2d(np.asarray(observation, float))
        if self._step == 0:
            self._states = self._sample(seen, self._goals)
            self.plans = list(self._described(self._states))
        target = self._states[:, min(self._step + 1, self.model.shape.horizon - 1)]
        self._step += 1
        force = np.clip((target - seen)[:, :POSITION] + (target - seen)[:, POSITION:], -1.0, 1.0)
        return force[0] if self._single else force

    @torch.inference_mode()
    def _sample(self, starts: np.ndarray, goals: np.ndarray, normalized: bool = False, rows: int = 100) -> np.ndarray:
        """States (N, H, 4) in the data's units, or normalised ones."""
        model, horizon = self.model, self.model.shape.horizon
        if not (normalized or model.normalization.learned):
            raise UnveilError(
                "these weights came without the statistics of their data, so plans are to be had in normalised units only "
                "(plan(..., normalized=True)); give the data set: unveil.load(..., dataset=NAME), or unveil weights convert --dataset NAME"
            )
        found = []
        for first in range(0, len(starts), rows):
            start, goal = starts[first : first + rows], goals[first : first + rows]
            value = torch.zeros((len(start), horizon, ACTION + STATE), device=self.device)
            value[:, 0, ACTION:] = torch.from_numpy(start).to(value)
            value[:, -1, ACTION : ACTION + POSITION] = torch.from_numpy(goal).to(value)
            edit = Inpaint(ends_known(horizon).to(self.device), value if normalized else model.normalization.normalized(value))
            denoise = clipped(model.denoiser, -1.0, 1.0)
            noise = torch.randn(value.shape, generator=self._generator, device="cpu").to(self.device)
            times = uniform(model.shape.diffusion_steps)
            x = sample(denoise, Ancestral(model.denoiser.schedule), noise, times, edit=edit, generator=self._generator)
            x = x if normalized else model.normalization.denormalized(x)
            found.append(x[..., ACTION:].cpu().double().numpy())
        return np.concatenate(found)

    def _described(self, states: np.ndarray) -> list[Plan]:
        times = np.arange(states.shape[1], dtype=float)
        lengths, none = np.array([states.shape[1]]), np.zeros(1)
        plans = []
        for path in states[..., :POSITION]:
            near = np.linalg.norm(path - path[-1], axis=1) <= 0.5
            plans.append(Plan(path, path, times, float(near.argmax()), path[None], lengths, none, 0))
        return plans
