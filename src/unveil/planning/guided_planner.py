"""Receding-horizon control: sample candidate plans from the current state, take the best, do its first
action, plan again.

Janner et al. 2022, sections 3.2 and 5.3.
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from unveil.arrays import numbers
from unveil.checks import kind, whole
from unveil.planning.data.interface import Interface, returned, rows_of
from unveil.planning.guided_planner_settings import GuidedSettings
from unveil.planning.networks.temporal_unet import TemporalUNet
from unveil.planning.networks.temporal_unet_inference import FastUNet
from unveil.planning.trajectory_inputs import check_units, noise_in
from unveil.planning.trajectory_model import TrajectoryModel, return_condition, unconditional
from unveil.planning.value_guidance import Form
from unveil.planning.value_guidance import value_at as value_at
from unveil.process.corrupt import corrupt
from unveil.process.denoised import GaussianDenoise, GaussianDenoised
from unveil.process.grid import uniform
from unveil.sampling.edit import Inpaint
from unveil.sampling.guidance import Branch, Guidance, cfg, clipped
from unveil.sampling.loop import sample
from unveil.sampling.noise import Recorded, generators, normal_like

Score = Callable[[Tensor], Tensor]
"""Ranks candidates: clean normalised plans (N, H, features) -> (N,); larger is better. It is not the score of
a density."""


class GuidedPlanner:
    """Map observations (B, D) to actions (B, A), or a single one (D,) to (A,). All episodes and candidates
    are one batch.

    Every episode has its own random generator: the n-th episode of this planner, counted over calls of
    `reset`, has seed + n. So its actions depend neither on the episodes beside it nor on `rows`, up to the
    rounding of batched products; ten episodes one after another, with `reset` in between, equal a batch of
    ten. The n-th call of `plan` has a generator of its own, with seed + n.

    Args:
        model: the diffusion of trajectories.
        form: solver and value guidance, such as `unguided(DDIM(model.denoiser.schedule))`.
        score: ranks finished candidates; with None the first is taken.
        settings: how plans are sampled and chosen.
        steer: further guidance, by a cost of your own, applied after that of the form. It may be set later:
            `planner.steer = costing(planner.model, cost, scale)`.
        interface: what observations and actions are; by default rows of numbers, and actions in [-1, 1].
        seed: seed of the noise of the first episode, at least 0.
    Raises:
        ValueError: a horizon that the network cannot take, or a setting that the model does not support.
    """

    def __init__(
        self,
        model: TrajectoryModel,
        form: Form,
        score: Score | None = None,
        settings: GuidedSettings | None = None,
        *,
        steer: Guidance | None = None,
        interface: Interface | None = None,
        seed: int = 0,
    ) -> None:
        self.settings = settings = GuidedSettings() if settings is None else settings
        kind("guided planner: model", model, TrajectoryModel)
        kind("guided planner: form", form, Form, ", such as unguided(DDIM(model.denoiser.schedule))")
        kind("guided planner: settings", settings, GuidedSettings)
        if settings.ask is not None and not model.shape.returns:
            raise ValueError(
                "guided planner: this model is not conditional on returns, so `ask` has no effect; train "
                "the transformer with `returns`"
            )
        self.model = model.eval()
        self.form, self.score, self.steer = form, score, steer
        self.interface = Interface() if interface is None else interface
        self.horizon = settings.planned(model.shape.horizon)
        if settings.warm_steps is not None:
            whole("`warm_steps`", settings.warm_steps, 1, settings.steps)
        unet = isinstance(model.denoiser.network, TemporalUNet | FastUNet)
        levels = len(model.shape.multiples) if unet else 1
        fewest = 2 if model.shape.inverse else 1
        if self.horizon < fewest:
            why = ": its first two observations determine the action" if model.shape.inverse else ""
            raise ValueError(
                f"guided planner: a plan needs at least {fewest} rows{why}; give another horizon than "
                f"{self.horizon}"
            )
        if self.horizon % 2 ** (levels - 1):
            raise ValueError(
                f"guided planner: plans of {self.horizon} rows cannot be halved {levels - 1} times by this "
                f"U-Net; give a horizon that is a multiple of {2 ** (levels - 1)}"
            )
        self._seed = whole("guided planner: seed", seed, 0, 2**62)
        self._plans = self._first = 0  # calls of `plan`; the number of episode 0 since `reset`
        self._count: int | None = None  # number of episodes, where calls do not name them
        self._streams: dict[int, torch.Generator] = {}
        self._last: dict[int, Tensor] = {}

    def reset(self) -> None:
        """Forget the last plans. The next decision is the first of new episodes, with new generators."""
        self._first += 1 + max(self._streams, default=-1)
        self._count, self._streams, self._last = None, {}, {}

    @torch.no_grad()
    def act(
        self,
        observations: Float[np.ndarray, "*B D"] | Mapping[str, object],
        *,
        episodes: Sequence[int] | np.ndarray | None = None,
        noise: np.ndarray | Tensor | None = None,
    ) -> np.ndarray:
        """The first action of the best plan from each observation, clipped to its limits, [-1, 1] by default:
        (*B, A), or the numbers (*B,) of discrete actions.

        Args:
            observations: in the data's units; a dictionary where the interface names fields.
            episodes: the number of each row's episode, from 0, where rows are left out, such as those of
                finished episodes. By default the rows are all episodes, as many as in the last call.
            noise: recorded noise, as in `best`.
        Raises:
            ValueError: observations of another size or not finite, another number of them than before without
                `reset`, or plans or actions that are not finite; the message names the cause.
            UnveilError: the model lacks the statistics of its data.
        """
        seen, single = rows_of(self.interface, observations, self.model.shape.observations)
        which = self._which(len(seen), episodes)
        best = self._best(self._known(seen), which, noise)
        if self.settings.warm_steps is not None:  # only a warm start uses the last plan
            self._last |= dict(zip(which, best, strict=True))
        actions = self.model.first_action(best)
        self._check_finite("actions", actions)
        chosen = returned(self.interface, actions.cpu().double().numpy())
        return chosen[0] if single else chosen

    @torch.no_grad()
    def plan(
        self,
        observation: Float[np.ndarray, " D"],
        normalized: bool = False,
        *,
        noise: np.ndarray | Tensor | None = None,
    ) -> Float[np.ndarray, "K H F"]:
        """All candidate plans from one observation, best first. Their rows are (actions, observations), or
        observations only.

        Args:
            observation: one observation.
            normalized: whether the observation and the plans are in normalised units instead of the data's.
            noise: (K, H, F), recorded standard normal noise, used instead of drawn initial noise;
                `temperature` does not scale it. Or (1 + S, K, H, F): the initial noise, then the noise of
                each of the S steps of a stochastic solver.
        Raises:
            ValueError, UnveilError: as `act`.
        """
        size = self.model.shape.observations
        seen = numbers("guided planner: plan's observation", observation, (size,), f"({size},)")
        draws = None if noise is None else noise_in(noise, self._noise_shape)
        own = generators(self._seed + self._plans, 1)
        self._plans += 1
        known = self._known(seen[None].astype(np.float64), normalized)
        plans = self._candidates(known, self.settings.candidates, None, own, draws)
        if self.score is not None:
            plans = plans[self._scored(plans).argsort(descending=True)]
        plans = plans if normalized else self.model.in_units(plans)
        self._check_finite("plans", plans)
        return plans.cpu().double().numpy()

    @torch.no_grad()
    def best(
        self,
        observations: Float[np.ndarray, "*B D"] | Mapping[str, object],
        *,
        episodes: Sequence[int] | np.ndarray | None = None,
        noise: np.ndarray | Tensor | None = None,
    ) -> Float[Tensor, "*B H F"]:
        """The best plan from each observation, in normalised units: the one whose first action `act` returns.

        Args:
            observations, episodes: as in `act`.
            noise: (B, K, H, F) or (1 + S, B, K, H, F), recorded noise; see `plan`.
        Raises:
            ValueError, UnveilError: as `act`.
        """
        seen, single = rows_of(self.interface, observations, self.model.shape.observations)
        best = self._best(self._known(seen), self._which(len(seen), episodes), noise)
        return best[0] if single else best

    def _best(self, known: Tensor, which: list[int], noise: np.ndarray | Tensor | None) -> Tensor:
        """The best plan (B, H, F) of each episode from its normalised observation."""
        k, begun = self.settings.candidates, [i in self._last for i in which]
        draws = None if noise is None else noise_in(noise, self._noise_shape, len(which))
        each = max(1, self.settings.rows // k)
        plans: dict[int, Tensor] = {}
        for warm in (False, True):
            rows = [row for row, i in enumerate(begun) if i == warm]
            for start in range(0, len(rows), each):
                some = rows[start : start + each]
                last = torch.stack([self._last[which[row]] for row in some]) if warm else None
                own = [self._streams[which[row]] for row in some]
                x = self._candidates(known[some], k, last, own, None if draws is None else draws[:, some])
                plans |= dict(zip(some, self._chosen(x, known[some]), strict=True))
        best = torch.stack([plans[row] for row in range(len(which))])
        self._check_finite("plans", best)
        return best

    def _chosen(self, x: Tensor, known: Tensor) -> Tensor:
        """The best plan (B, H, F) among candidates (B * K, H, F)."""
        k = self.settings.candidates
        if self.score is None:
            return x[::k]
        candidates = x.reshape(-1, k, *x.shape[1:])
        plan = chosen(candidates, self._scored(x).reshape(-1, k), self.settings.sharpness)
        return plan - candidates.mean(1) + self._expected(known) if self.settings.anchored else plan

    def _scored(self, x: Tensor) -> Tensor:
        assert self.score is not None
        scores = self.score(x)
        fits = scores.shape == x.shape[:1]
        if not fits or not bool(torch.isfinite(scores).all()):
            got = "numbers that are not finite" if fits else f"shape {tuple(scores.shape)}"
            raise ValueError(
                f"guided planner: the score must return one finite number per plan, {tuple(x.shape[:1])}, "
                f"got {got}"
            )
        return scores

    @property
    def _noise_shape(self) -> tuple[int, int, int]:
        return self.settings.candidates, self.horizon, self.model.shape.features

    def _which(self, count: int, episodes: Sequence[int] | np.ndarray | None) -> list[int]:
        """The numbers of the episodes of a call, each with its generator.

        Raises:
            ValueError: another number of episodes than before, or numbers that cannot be.
        """
        if episodes is None:
            if self._count not in (None, count):
                raise ValueError(
                    f"guided planner: {self._count} episodes before, {count} now; call reset() between "
                    "episodes, or name those that go on: "
                    "act(observations, episodes=numbers)"
                )
            self._count, which = count, list(range(count))
        else:
            which = [
                whole("guided planner: a number of episodes", i, 0)
                for i in np.asarray(episodes).reshape(-1).tolist()
            ]
            most = which if self._count is None else range(self._count)
            if len(which) != count or len(set(which)) != count or not set(which) <= set(most):
                of = "" if self._count is None else f", below {self._count}"
                raise ValueError(
                    f"guided planner: episodes must be {count} different numbers{of}, one for each row, got "
                    f"{which[:8]}"
                )
        for i in which:
            if i not in self._streams:
                self._streams[i] = generators(self._seed + self._first, 1, first=i)[0]
        return which

    def _expected(self, known: Tensor) -> Tensor:
        """The mean of all plans (B, H, F) from normalised observations (B, D): the denoiser's estimate at t =
        1, where x_t is pure noise."""
        model, shape = self.model, self.model.shape
        x = torch.zeros((len(known), self.horizon, shape.features), device=model.device)
        x[:, 0, -shape.observations :] = known
        belief = self._denoise()(x, torch.ones(len(known), dtype=torch.float64, device="cpu")).mean
        return torch.where(shape.first_known(self.horizon).to(model.device), x, belief)

    def _denoise(self) -> GaussianDenoise:
        """The model's denoiser as the settings want it: conditioned on a return, and clamped to the range of
        the data."""
        rank = self.settings.ask
        denoise = (
            unconditional(self.model)
            if rank is None
            else conditioned(self.model, rank, self.settings.ask_scale)
        )
        if not self.settings.clip:
            return denoise
        norm, planned = self.model.normalization, self.model.shape.planned
        return clipped(denoise, norm.least[planned], norm.most[planned])

    def _known(self, observations: Float[np.ndarray, "B D"], normalized: bool = False) -> Tensor:
        """Normalised first observations (B, D).

        Raises:
            UnveilError: observations in the data's units, but the model lacks the statistics of its data.
        """
        check_units(self.model, normalized)
        raw = torch.from_numpy(np.asarray(observations)).to(self.model.device, torch.float32)
        own = slice(self.model.shape.actions, None)
        return raw if normalized else self.model.normalization.normalized(raw, own)

    def _candidates(
        self,
        known: Tensor,
        k: int,
        last: Tensor | None,
        own: Sequence[torch.Generator],
        recorded: Tensor | None = None,
    ) -> Tensor:
        """Finished plans (B * K, H, F); the K plans of an episode are consecutive.

        Raises:
            ValueError: a number of them is not finite, or recorded noise does not fit the solver.
        """
        model, settings = self.model, self.settings
        shape, device = model.shape, model.device
        value = torch.zeros((len(known) * k, self.horizon, shape.features), device=device)
        value[:, 0, -shape.observations :] = known.repeat_interleave(k, dim=0)
        put_back = Inpaint(shape.first_known(self.horizon).to(device), value)
        times = uniform(settings.steps)
        steps: Recorded | None = None
        if recorded is None:
            noise = settings.temperature * normal_like(value, own)
        else:
            noise = recorded[0].flatten(0, 1).to(device)
            steps = Recorded([draw.flatten(0, 1) for draw in recorded[1:]]) if len(recorded) > 1 else None
        if last is not None and settings.warm_steps is not None:
            times = times[-settings.warm_steps - 1 :]
            moved = torch.cat([last[:, 1:], last[:, -1:]], dim=1).repeat_interleave(k, dim=0)
            noise = corrupt(model.denoiser.schedule, moved, times[0].expand(len(moved)), noise)
        denoise = self.form.guide(self._denoise())
        if self.steer is not None:
            denoise = self.steer(denoise)
        edit = self.form.edit(put_back)
        x = sample(
            denoise, self.form.solver, noise, times, edit=edit, generator=own if steps is None else steps
        )
        if steps is not None and not steps.used:
            raise ValueError(
                "guided planner: noise contains noise of each step, but this solver draws none; give the "
                "initial noise alone"
            )
        self._check_finite("plans", x)
        return x

    def _check_finite(self, what: str, x: Tensor) -> None:
        """Refuse plans or actions that are not finite.

        Raises:
            ValueError: the message names guidance and its scale, or what else is the likely cause.
        """
        if not bool(torch.isfinite(x).all()):
            raise ValueError(f"guided planner: {what} are not finite; {self._cause()}")

    def _cause(self) -> str:
        """The likely cause of plans that are not finite, for people."""
        causes = [f"the value's guidance of scale {self.form.scale:g}"] * (self.form.scale != 0.0)
        causes += ["the steering cost (steer)"] * (self.steer is not None)
        causes += [f"an ask_scale of {self.settings.ask_scale:g}"] * (
            self.settings.ask is not None and self.settings.ask_scale != 1.0
        )
        if causes:
            strong = f"{' or '.join(causes)} is too strong"
            return f"{strong}: give a smaller scale, or a cost whose gradient is finite everywhere"
        return "the weights are damaged, or the observations lie far outside their data"


def chosen(x: Tensor, scores: Tensor, sharpness: float | None) -> Tensor:
    """The best of candidates (B, K, H, F) by scores (B, K), or their mean weighted by softmax(sharpness *
    standardised score)."""
    if sharpness is None:
        return x[torch.arange(x.shape[0], device=x.device), scores.argmax(1)]
    centred = scores - scores.mean(1, keepdim=True)
    spread = centred.square().mean(1, keepdim=True).sqrt()
    least = (
        1e-6 * scores.abs().amax(1, keepdim=True) + torch.finfo(scores.dtype).tiny
    )  # smaller spreads are rounding errors
    weights = (sharpness * centred / torch.maximum(spread, least)).softmax(dim=1)
    return (weights[:, :, None, None] * x).sum(1)


def conditioned(model: TrajectoryModel, rank: float, scale: float) -> GaussianDenoise:
    """The denoiser conditioned on a return, by classifier-free guidance from the unconditional denoiser. Ajay
    et al. 2023.

    Args:
        rank: rank of the return among those of the data, 0 (worst) to 1 (best).
        scale: guidance scale; 1 is the conditional denoiser.
    """

    def denoise(x_t: Tensor, t: Tensor) -> GaussianDenoised:
        cond = return_condition(torch.full((len(x_t),), rank, device=x_t.device))
        if scale == 1.0:
            return model.denoiser(x_t, t, cond)
        no_cond = return_condition(torch.full((len(x_t),), torch.nan, device=x_t.device))
        return cfg(model.denoiser, Branch(cond), Branch(no_cond), scale)(x_t, t)

    return denoise
