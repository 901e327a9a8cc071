"""Acting by plans from the state on: sample candidates, take the one of highest value, do its first action, plan again.

Janner et al. 2022, section 3.2 and 5.3.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from math import isfinite

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from unveil.apps.guidance_forms import Form
from unveil.apps.policy_checks import kind, number
from unveil.apps.policy_model import PolicyModel
from unveil.apps.trajectory_model import TrajectoryModel, asked, untold
from unveil.errors import UnveilError
from unveil.network.fast_unet1d import FastUNet
from unveil.network.unet1d import TemporalUNet
from unveil.process.corrupt import corrupt
from unveil.process.denoised import GaussianDenoise, GaussianDenoised
from unveil.process.grid import uniform
from unveil.sampling.edit import Inpaint
from unveil.sampling.guidance import Branch, Guidance, cfg, clipped, steered
from unveil.sampling.loop import sample
from unveil.sampling.noise import normal_like

Score = Callable[[Tensor], Tensor]  # ranks candidates: clean normalised plans (N, H, features) -> (N,); no score function of a density


@dataclass(frozen=True)
class GuidedSettings:
    """How to plan.

    Args:
        candidates: K, plans for one decision.
        steps: denoising steps; the model's own number is the published way.
        horizon: rows of a plan; by default those of a training window.
        temperature: factor on the initial noise.
        warm_steps: if given, later decisions of an episode start from the last plan, moved on by one row and noised again to the time
            from which so many of the `steps` are left, instead of from noise.
        sharpness: if given, what acts is not the best plan but the mean of all, weighted by softmax(sharpness * standardised score): noise
            of single samples averages out (as in model predictive path integral control, Williams et al. 2017).
        anchored: with `sharpness`, the belief at t = 1 stands in the place of the candidates' plain mean. Both are the mean of all plans
            that begin with this observation, but the belief has neither sampling error nor the bias of few steps: a control variate.
        ask: if given, plans are asked for whose return lies above this share of the data's, 0 to 1; for models that are told returns.
        ask_scale: of classifier-free guidance towards such plans: 1 asks, more insists.
        clip: clamp every belief to the smallest and largest values in the data.
        rows: largest batch for the network.
    """

    candidates: int = 64
    steps: int = 20
    horizon: int | None = None
    temperature: float = 1.0
    warm_steps: int | None = None
    sharpness: float | None = None
    anchored: bool = False
    ask: float | None = None
    ask_scale: float = 1.0
    clip: bool = True
    rows: int = 1024


class GuidedPlanner:
    """Maps observations (B, D) to actions (B, A), all episodes and candidates in one batch.

    Args:
        score: values of finished candidates; None takes the first.
        steer: guidance after the form's: by a cost of one's own. May be set later: `planner.steer = costing(planner.model, cost, scale)`.
    Raises:
        ValueError: a setting out of range, or a horizon that the network cannot take.
    """

    def __init__(
        self,
        model: TrajectoryModel,
        form: Form,
        score: Score | None = None,
        settings: GuidedSettings | None = None,
        *,
        steer: Guidance | None = None,
        seed: int = 0,
    ) -> None:
        self.settings = settings = GuidedSettings() if settings is None else settings
        if settings.anchored and settings.sharpness is None:
            raise ValueError("guided planner: anchored needs a sharpness; the best plan alone is no mean")
        if (
            settings.candidates < 1
            or settings.steps < 1
            or (settings.warm_steps is not None and not 1 <= settings.warm_steps <= settings.steps)
        ):
            raise ValueError(
                f"guided planner: candidates and steps >= 1 and warm_steps in 1 .. steps are needed, got {settings.candidates}, "
                f"{settings.steps} and {settings.warm_steps}"
            )
        if not all(isfinite(n) for n in (settings.temperature, settings.sharpness or 0.0, settings.ask_scale)) or settings.temperature < 0:
            raise ValueError(
                f"guided planner: a temperature of at least 0 and a finite sharpness and ask_scale are needed, got {settings.temperature}, "
                f"{settings.sharpness} and {settings.ask_scale}"
            )
        if settings.ask is not None and not (model.shape.returns and 0.0 <= settings.ask <= 1.0):
            raise ValueError(
                f"guided planner: --ask is a share of the data's returns, 0 to 1, got {settings.ask}"
                if model.shape.returns
                else "guided planner: these weights were not told returns, so none can be asked for; train the transformer with --returns"
            )
        self.model = model.eval()
        self.form, self.score, self.steer = form, score, steer
        self.horizon = model.shape.horizon if settings.horizon is None else settings.horizon
        levels = len(model.shape.multiples) if isinstance(model.denoiser.network, TemporalUNet | FastUNet) else 1
        fewest = 2 if model.shape.inverse else 1
        if self.horizon < fewest:
            why = ": its first two observations tell the action" if model.shape.inverse else ""
            raise ValueError(f"guided planner: a plan needs at least {fewest} rows{why}; give another --plan-horizon than {self.horizon}")
        if self.horizon % 2 ** (levels - 1):
            raise ValueError(
                f"guided planner: plans of {self.horizon} rows cannot be halved {levels - 1} times by this U-Net; give --plan-horizon "
                f"as a multiple of {2 ** (levels - 1)}"
            )
        self._generator = torch.Generator(device="cpu").manual_seed(seed)
        self._last: Tensor | None = None

    def reset(self) -> None:
        """Forget the last plans: the next decision is the first of its episodes."""
        self._last = None

    @torch.no_grad()
    def act(self, observations: Float[np.ndarray, "B D"]) -> Float[np.ndarray, "B A"]:
        """The first action of the best plan from each observation, clipped to [-1, 1]."""
        best = self.best(observations)
        self._last = best if self.settings.warm_steps is not None else None  # without a warm start there is nothing to remember
        return self.model.first_action(best).clamp(-1.0, 1.0).cpu().double().numpy()

    @torch.no_grad()
    def plan(self, observation: Float[np.ndarray, " D"], normalized: bool = False) -> Float[np.ndarray, "K H F"]:
        """All candidates from one observation, best first; rows are (actions, observations), or observations alone.

        Args:
            normalized: the observation and the plans are in normalised units instead of the data's.
        """
        candidates = self._candidates(self._known(observation[None], normalized), self.settings.candidates, None)
        order = torch.arange(len(candidates)) if self.score is None else self.score(candidates).argsort(descending=True)
        best = candidates[order] if normalized else self.model.normalization.denormalized(candidates[order], self.model.shape.planned)
        return best.cpu().double().numpy()

    @torch.no_grad()
    def best(self, observations: Float[np.ndarray, "B D"]) -> Tensor:
        """The best plan from each observation, normalised: (B, H, features)."""
        count, k, score = len(observations), self.settings.candidates, self.score
        known, last = self._known(observations), self._last
        if last is not None and len(last) != count:
            raise ValueError(f"guided planner: {len(last)} episodes before, {count} now; call reset() between episodes")
        each = max(1, self.settings.rows // k)
        best = []
        for start in range(0, count, each):
            own = slice(start, start + each)
            x = self._candidates(known[own], k, None if last is None else last[own])
            if score is None:
                best.append(x[::k])
                continue
            candidates = x.reshape(-1, k, *x.shape[1:])
            plan = chosen(candidates, score(x).reshape(-1, k), self.settings.sharpness)
            best.append(plan - candidates.mean(1) + self._expected(known[own]) if self.settings.anchored else plan)
        return torch.cat(best)

    def _expected(self, known: Tensor) -> Tensor:
        """The mean of all plans (B, H, F) from normalised observations (B, D): the belief at t = 1, where the noise tells nothing."""
        model, shape = self.model, self.model.shape
        x = torch.zeros((len(known), self.horizon, shape.features), device=model.device)
        x[:, 0, -shape.observations :] = known
        belief = self._denoise()(x, torch.ones(len(known), dtype=torch.float64, device="cpu")).mean
        return torch.where(shape.first_known(self.horizon).to(model.device), x, belief)

    def _denoise(self) -> GaussianDenoise:
        """The model's denoiser, asked for a return, and clipped to what the data hold, if that is wanted."""
        denoise = untold(self.model) if self.settings.ask is None else asking(self.model, self.settings.ask, self.settings.ask_scale)
        if not self.settings.clip:
            return denoise
        norm, planned = self.model.normalization, self.model.shape.planned
        return clipped(denoise, norm.least[planned], norm.most[planned])

    def _known(self, observations: Float[np.ndarray, "B D"], normalized: bool = False) -> Tensor:
        """Normalised first observations (B, D).

        Raises:
            ValueError: not finite.
            UnveilError: in the data's units, but the weights came without the data's statistics.
        """
        if not np.isfinite(observations).all():
            raise ValueError("guided planner: observations must be finite numbers")
        raw = torch.from_numpy(np.asarray(observations)).to(self.model.device, torch.float32)
        if normalized:
            return raw
        if not self.model.normalization.learned:
            raise UnveilError(
                "these weights came without the statistics of their data, so plans are to be had in normalised units only "
                "(plan(..., normalized=True)); give the data set: unveil.load(..., dataset=NAME), or unveil weights convert --dataset NAME"
            )
        return self.model.normalization.normalized(raw, slice(self.model.shape.actions, None))

    @torch.no_grad()
    def _candidates(self, known: Tensor, k: int, last: Tensor | None) -> Tensor:
        """Finished plans (B * K, H, F), those of one episode in a row."""
        model, settings = self.model, self.settings
        shape, device = model.shape, model.device
        value = torch.zeros((len(known) * k, self.horizon, shape.features), device=device)
        value[:, 0, -shape.observations :] = known.repeat_interleave(k, dim=0)
        put_back = Inpaint(shape.first_known(self.horizon).to(device), value)
        times = uniform(settings.steps)
        noise = settings.temperature * normal_like(value, self._generator)
        if last is not None and settings.warm_steps is not None:
            times = times[-settings.warm_steps - 1 :]
            moved = torch.cat([last[:, 1:], last[:, -1:]], dim=1).repeat_interleave(k, dim=0)
            noise = corrupt(model.denoiser.schedule, moved, times[0].expand(len(moved)), noise)
        denoise = self.form.guide(self._denoise())
        if self.steer is not None:
            denoise = self.steer(denoise)
        return sample(denoise, self.form.solver, noise, times, edit=self.form.edit(put_back), generator=self._generator)


def chosen(x: Tensor, scores: Tensor, sharpness: float | None) -> Tensor:
    """Of candidates (B, K, H, F) the best by scores (B, K), or their mean weighted by softmax(sharpness * standardised score)."""
    if sharpness is None:
        return x[torch.arange(len(x), device=x.device), scores.argmax(1)]
    centred = scores - scores.mean(1, keepdim=True)
    spread = centred.square().mean(1, keepdim=True).sqrt()
    least = 1e-6 * scores.abs().amax(1, keepdim=True) + torch.finfo(scores.dtype).tiny  # below it scores differ by rounding
    weights = (sharpness * centred / torch.maximum(spread, least)).softmax(dim=1)
    return (weights[:, :, None, None] * x).sum(1)


def asking(model: TrajectoryModel, rank: float, scale: float) -> GaussianDenoise:
    """The belief about plans whose return has this rank among the data's, by classifier-free guidance from plans of any return."""

    def denoise(x_t: Tensor, t: Tensor) -> GaussianDenoised:
        wanted = asked(torch.full((len(x_t),), rank, device=x_t.device))
        if scale == 1.0:
            return model.denoiser(x_t, t, wanted)
        return cfg(model.denoiser, Branch(wanted), Branch(asked(torch.full((len(x_t),), torch.nan, device=x_t.device))), scale)(x_t, t)

    return denoise


def value_at(value: Callable[[Tensor, Tensor], Tensor], t: float) -> Score:
    """Scores plans by a value of noisy ones, told that they are at time t: 0 for one trained on clean plans too, else its smallest."""

    def score(x: Tensor) -> Tensor:
        return value(x, torch.full((len(x),), t, dtype=torch.float64, device="cpu"))

    return score


def costing(
    model: TrajectoryModel | PolicyModel, cost: Callable[[Tensor], Tensor], scale: float, *, jacobian: bool = True, until: float = 0.9
) -> Guidance:
    """Steer plans, or a policy's chunks, by a cost of one's own in the data's units: a height limit, a keep-out zone, a preferred side.
    Composes with any form of value guidance, and with real-time control.

    >>> planner = unveil.load("hopper-medium-expert", preset="default")
    >>> planner.steer = costing(planner.model, lambda plan: (plan[..., 3] - 1.4).clamp(min=0).square().sum(-1), scale=300.0)

    Args:
        cost: clean plans (N, H, actions + observations), (N, H, observations) of an observation-only model or (N, H, actions) of a policy,
            to (N,).
        scale: of the cost's gradient in normalised units; see `steered`.
        jacobian: take the gradient through the network. Without, only the numbers in the cost move: torques hardly follow heights.
        until: t up to which the cost acts, in (0, 1].
    Raises:
        ValueError: a model, cost, scale or time that cannot be.
    """
    kind("costing: model", model, nn.Module, ", a planner's or a policy's .model")
    if not callable(cost):
        raise ValueError(f"costing: cost must be a function of clean plans or chunks, got {type(cost).__name__}")
    number("costing: scale", scale)
    if not 0.0 < number("costing: until", until) <= 1.0:
        raise ValueError(f"costing: until must lie in (0, 1], got {until}")

    def normalized_cost(x: Tensor, t: Tensor) -> Tensor:
        if isinstance(model, PolicyModel):
            return cost(model.acted.denormalized(x[..., : model.shape.actions]))
        return cost(model.normalization.denormalized(x, model.shape.planned))

    return partial(steered, cost=normalized_cost, schedule=model.denoiser.schedule, scale=scale, jacobian=jacobian, interval=(0.0, until))
