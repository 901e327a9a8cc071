"""Plans of block stacking: sequences of states from the present one, the best of several candidates."""

from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from unveil.arrays import numbers
from unveil.planning.data.stacking_states import CUBES, PLACES, SIZE
from unveil.planning.stacking.model import StackingModel, first_known
from unveil.planning.stacking.settings import StackingSettings
from unveil.process.denoised import GaussianDenoise, GaussianDenoised
from unveil.process.grid import uniform
from unveil.sampling.dpmpp import DPMpp2M
from unveil.sampling.edit import Inpaint
from unveil.sampling.guidance import Branch, Guidance, cfg
from unveil.sampling.loop import sample
from unveil.sampling.noise import generators, normal_like

Score = Callable[[Float[np.ndarray, "N H 39"]], Float[np.ndarray, " N"]]
"""Ranks plans, in their units; larger is better."""


class StackingPlanner:
    """Map states (B, 39) to plans (B, H, 39): row 0 is the state, then commanded joints, where the cubes will
    be, and which cube the cup should hold.

    Every call of `plan` has its own random numbers, and so has every row of it, so that rows of a batch do
    not depend on each other.

    Args:
        model: the diffusion of plans.
        steer: further guidance, by a cost of your own, such as `partial(steered, cost=..., schedule=...)`; it
            sees plans in normalised units (`model.normalization`).
        seed: of the noise.
    """

    def __init__(
        self,
        model: StackingModel,
        settings: StackingSettings | None = None,
        *,
        steer: Guidance | None = None,
        seed: int = 0,
    ) -> None:
        self.model, self.steer = model.eval(), steer
        self.settings = StackingSettings() if settings is None else settings
        self._seed, self._calls = seed, 0

    @torch.no_grad()
    def plan(
        self,
        states: Float[np.ndarray, "*B 39"],
        goals: Float[np.ndarray, "*B 4 3"] | None = None,
        score: Score | None = None,
    ) -> Float[np.ndarray, "*B H 39"]:
        """The best plan from each state.

        Args:
            states: in their units; one (39,) gives one plan (H, 39).
            goals: where the cubes shall be at the end, in m; None: anywhere.
            score: ranks candidates; by default plans that end near the goal are better, and without a goal
                the first one is taken.
        Raises:
            ValueError: another shape, or numbers that are not finite, also of plans.
        """
        single = np.ndim(states) == 1
        shape = (SIZE,) if single else (None, SIZE)
        seen = numbers("stacking planner: states", states, shape, f"(B, {SIZE})").astype(np.float32)
        aims = None
        if goals is not None:
            wanted = (CUBES, 3) if single else (len(seen), CUBES, 3)
            aims = numbers("stacking planner: goals", goals, wanted, f"(B, {CUBES}, 3)").astype(np.float32)
        if single:
            seen, aims = seen[None], None if aims is None else aims[None]
        plans = self.candidates(seen, aims)
        scores = self._scores(plans, aims, score)
        best = plans[np.arange(len(seen)), scores.argmax(1)]
        return best[0] if single else best

    def candidates(
        self, states: Float[np.ndarray, "B 39"], goals: Float[np.ndarray, "B 4 3"] | None
    ) -> Float[np.ndarray, "B K H 39"]:
        """All candidates, in their units."""
        model, settings, count = self.model, self.settings, len(states)
        k, horizon = settings.candidates, settings.horizon or model.shape.horizon
        start = torch.from_numpy(states).to(model.device).repeat_interleave(k, 0)
        aims = None if goals is None else torch.from_numpy(goals).to(model.device).repeat_interleave(k, 0)
        own = generators(self._seed + 1_000_003 * self._calls, count)
        self._calls += 1
        noise = normal_like(torch.empty((count * k, horizon, SIZE), device=model.device), own)
        value = model.normalization.normalized(start)[:, None].expand(-1, horizon, -1)
        edit = Inpaint(first_known(horizon).to(model.device), value)
        times = uniform(settings.sampling_steps)
        schedule = model.denoiser.schedule
        x = sample(
            self._denoise(start, aims), DPMpp2M(schedule), noise * schedule.sigma(times[0]), times, edit=edit
        )
        if not bool(torch.isfinite(x).all()):
            raise ValueError(
                "stacking planner: plans are not finite; lower the scale of the guidance, now "
                f"{settings.scale:g}{' and that of `steer`' if self.steer else ''}"
            )
        plans = model.normalization.denormalized(x).cpu().numpy()
        return plans.reshape(count, k, horizon, SIZE).astype(np.float64)

    def _denoise(self, start: Tensor, goals: Tensor | None) -> GaussianDenoise:
        model, scale = self.model, self.settings.scale
        free = model.condition(start, None)
        told = free if goals is None else model.condition(start, goals)

        def plain(x_t: Tensor, t: Tensor) -> GaussianDenoised:
            return model.denoiser(x_t, t, told)

        guided = (
            plain if scale == 1.0 or goals is None else cfg(model.denoiser, Branch(told), Branch(free), scale)
        )
        return guided if self.steer is None else self.steer(guided)

    def _scores(
        self,
        plans: Float[np.ndarray, "B K H 39"],
        goals: Float[np.ndarray, "B 4 3"] | None,
        score: Score | None,
    ) -> Float[np.ndarray, "B K"]:
        count, k = plans.shape[:2]
        if score is not None:
            found = np.asarray(score(plans.reshape(count * k, *plans.shape[2:])))
            if found.shape != (count * k,):
                raise ValueError(
                    f"the score must return one number per plan, ({count * k},), got {found.shape}"
                )
            return found.reshape(count, k)
        if goals is None:
            return np.zeros((count, k))
        ends = plans[:, :, -1][..., PLACES]
        return -np.linalg.norm(ends - goals[:, None], axis=-1).max(-1)
