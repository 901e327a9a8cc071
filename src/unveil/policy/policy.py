"""Act with a diffusion policy: observe, predict a chunk of actions, execute some of them.

Chi et al. 2023, section III.
"""

from functools import partial

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from unveil.arrays import axes_of, numbers
from unveil.checks import flag, kind, number, whole
from unveil.policy.data.chunks import check_window
from unveil.policy.finite_actions import DAMAGED, finite, finite_edit
from unveil.policy.model import PolicyModel, times_of
from unveil.policy.networks.conditional_unet1d_inference import FastConditionalUNet
from unveil.policy.observing import rows_of
from unveil.process.denoised import GaussianDenoise, GaussianDenoised
from unveil.process.schedule import Tabulated
from unveil.sampling.edit import Edit, Inpaint, chain, identity
from unveil.sampling.guidance import Guidance, clipped
from unveil.sampling.loop import Solver, sample
from unveil.sampling.noise import Noise, Recorded, generators, normal_like


class Policy:
    """`act` maps observations to actions in the data's units, deciding every `n_action` calls.

    Observations are rows (B, D), or what an environment gives, such as a dict of arrays: see `observing.py`.
    Actions are (B, A), or (A,) for one environment without a batch.

    Every environment has its own history and queue: `reset(rows)` restarts some of them, and those decide
    again in the next call while the others continue. An environment's first observation also fills the
    history before it.

    Environment i draws from its own generator, with seed + i: its actions depend neither on the number of
    environments nor on which of them decide in the same call, up to the rounding of batched products. `reset`
    does not rewind the generators.

    Args:
        solver: solver on the model's schedule, such as `DDIM(model.denoiser.schedule)`; the published one is
            `Ancestral`.
        steps: network calls per decision (twice as many with `Heun`).
        n_action: actions to execute per chunk; by default the shape's.
        temperature: factor on the drawn initial noise, at least 0.
        clip: clamp every belief to [-1, 1], the limits of the data's actions, as published.
        seed: seed of the first environment's noise.
    Attributes:
        steer: guidance of every belief, before it is clamped: `policy.steer = costing(policy.model, cost,
            scale)`.
        chunks: (B, H, A), the last predicted chunk of each environment; row n_obs - 1 is its first executed
            action.
        decisions: number of calls that predicted.
    Raises:
        ValueError: steps < 1 or more than the schedule has, n_action that the chunk does not hold, a
            temperature below 0 or not finite, a seed below 0, or a value of another type.
    """

    chunks: Float[np.ndarray, "B H A"] | None

    def __init__(
        self,
        model: PolicyModel,
        solver: Solver[GaussianDenoised],
        steps: int,
        *,
        n_action: int | None = None,
        temperature: float = 1.0,
        clip: bool = True,
        seed: int = 0,
    ) -> None:
        kind("policy: model", model, PolicyModel)
        kind("policy: solver", solver, Solver, ", such as DDIM(model.denoiser.schedule)")
        self.model, self.solver = model.eval(), solver
        self.temperature = number("policy: temperature", temperature, 0.0)
        self.clip = flag("policy: clip", clip)
        schedule = model.denoiser.schedule
        steps = whole("policy: steps", steps, 1, schedule.steps if isinstance(schedule, Tabulated) else None)
        self.times = times_of(schedule, steps)
        self.n_action = model.shape.n_action if n_action is None else whole("policy: n_action", n_action)
        check_window(model.shape.n_obs, model.shape.horizon, self.n_action)
        self._seed = whole("policy: seed", seed, 0, 2**62)
        self._generators: list[torch.Generator] = []
        self.decisions = 0
        self.steer: Guidance | None = None
        self.chunks = None
        self.reset()

    @property
    def executed(self) -> slice:
        """The rows of a chunk that are executed."""
        first = self.model.shape.n_obs - 1
        return slice(first, first + self.n_action)

    def reset(self, rows: Bool[np.ndarray, " B"] | None = None) -> None:
        """Forget history and chunk of all environments, or of the marked ones.

        Raises:
            ValueError: marks that are not one bool per environment.
        """
        rows = marks(rows, None if self.chunks is None else len(self.chunks))
        if rows is None or self.chunks is None:
            self.chunks = None
        else:
            self._position[rows] = -1

    def act(
        self, observations: object, *, noise: np.ndarray | Tensor | None = None
    ) -> Float[np.ndarray, "*B A"]:
        """The next action of every environment.

        Args:
            observations: (B, D), (D,) or a dict; see `observing.py`.
            noise: as in `predict`, for all environments; used for those that decide in this call.
        Raises:
            ValueError: observations of another size, not finite, or of another number of environments without
                a `reset`; or actions that are not finite, with the cause.
        """
        observations, single = rows_of(self.model.shape, observations)
        shape, count = self.model.shape, len(observations)
        noise = None if noise is None else self.check_noise(noise, count)
        if self.chunks is None:
            self.chunks = np.zeros((count, shape.horizon, shape.actions))
            self._history = np.zeros((count, shape.n_obs, shape.observations), np.float32)
            self._position = np.full(count, -1)
        if len(self.chunks) != count:
            raise ValueError(
                f"policy: {len(self.chunks)} environments before, {count} now; call reset() in between"
            )
        fresh = self._position < 0
        self._history = np.concatenate([self._history[:, 1:], observations[:, None]], axis=1)
        self._history[fresh] = observations[fresh, None]
        deciding = fresh | (self._position >= self.n_action)
        if deciding.any():
            drawn = None if noise is None else noise[:, deciding]
            environments = np.flatnonzero(deciding)
            self.chunks[deciding] = self.predict(
                self._history[deciding], noise=drawn, environments=environments
            )
            self._position[deciding] = 0
            self.decisions += 1
        actions = self.chunks[np.arange(count), shape.n_obs - 1 + self._position]
        self._position += 1
        return actions[0] if single else actions

    def check(self, observations: object) -> Float[np.ndarray, "B D"]:
        """Observations as float32 rows.

        Raises:
            ValueError: as `rows_of`.
        """
        return rows_of(self.model.shape, observations)[0]

    def check_noise(self, noise: object, count: int) -> Float[np.ndarray, "S B H row"]:
        """Recorded noise as float32; (B, H, row) becomes (1, B, H, row).

        Raises:
            ValueError: another shape than (count, H, row) or (1 + S, count, H, row), or not finite.
        """
        size = (count, self.model.shape.horizon, self.model.shape.row)
        every = axes_of(noise) == len(size) + 1
        shape = (None, *size) if every else size
        wanted = f"{size} or (1 + steps, {', '.join(map(str, size))})"
        checked = numbers("policy: noise", noise, shape, wanted).astype(np.float32)
        return checked if every else checked[None]

    @torch.no_grad()
    def predict(
        self,
        observations: Float[np.ndarray, "B n_obs D"],
        prefix: Float[np.ndarray, "B d A"] | None = None,
        *,
        steer: Guidance | None = None,
        edit: Edit = identity,
        noise: np.ndarray | Tensor | None = None,
        environments: Int[np.ndarray, " B"] | None = None,
    ) -> Float[np.ndarray, "B H A"]:
        """Sample a chunk of actions for each history of observations, the newest last.

        Args:
            prefix: known actions, beginning at the newest observation, that will be executed in any case: the
                chunk holds them unchanged, the network is conditioned on their number, and the other actions
                are sampled given them, by `Inpaint`, as they were clean in training, too.
            steer: guidance in addition to the attribute's.
            edit: edit of the state, in normalised units.
            noise: (B, H, row), recorded standard normal noise in place of the initial draw; `temperature`
                does not scale it. Rows have A numbers, or A + D where observations are inpainted. Or (1 + S,
                B, H, row), whose other parts replace the noise of a stochastic solver's S steps, which is
                drawn otherwise.
            environments: (B,), the environments whose generators draw; by default 0 .. B - 1.
        Raises:
            ValueError: a longer prefix than in training, an array of another shape or not finite, or actions
                that are not finite, with the cause: guidance, the edit, or the weights.
        """
        shape, device, dtype = self.model.shape, self.model.device, self.model.dtype
        n, d, a = shape.n_obs, shape.observations, shape.actions
        observations = numbers("policy: observations", observations, (None, n, d), f"(B, {n}, {d})")
        count = len(observations)
        if prefix is not None:
            prefix = numbers("policy: prefix", prefix, (count, None, a), f"({count}, d, {a})")
        length = 0 if prefix is None else prefix.shape[1]
        if length > shape.prefix:
            raise ValueError(
                f"policy: trained with known prefixes of up to {shape.prefix} actions, got {length}; train "
                f"with `prefix={length}`"
            )
        counts = torch.full((count,), length, device=device)
        seen = torch.from_numpy(observations).to(device, dtype)
        cond = self.model.condition(seen, counts)
        network = self.model.denoiser.network
        if isinstance(network, FastConditionalUNet) and network.plain.vector:
            cond = network.prefill(cond)
        own: Noise = self._drawing(count, environments)
        if noise is None:
            normal = normal_like(torch.empty((count, shape.horizon, shape.row), device=device), own)
            first = (self.temperature * normal).to(dtype)  # (B, H, row)
        else:
            first, *later = torch.from_numpy(self.check_noise(noise, count)).to(device, dtype)
            own = Recorded(later) if later else own
        denoise: GaussianDenoise = partial(self.model.denoiser, cond=cond)
        both = {"policy.steer": self.steer, "steer=": steer}
        guides = {name: guide for name, guide in both.items() if guide is not None}
        if guides:
            remedy = f"give a smaller scale; if it does without guidance too, {DAMAGED}"
            denoise = finite(denoise, "the network, under guidance,", remedy)
        for name, guide in guides.items():
            remedy = "give a smaller scale, or a cost whose gradient is finite everywhere"
            denoise = finite(guide(denoise), f"guidance ({name})", remedy)
        denoise = clipped(denoise, -1.0, 1.0) if self.clip else denoise
        rows = slice(shape.n_obs - 1, shape.n_obs - 1 + length)
        edit = edit if edit is identity else finite_edit(edit)
        inpainted = shape.condition == "inpainting"
        if prefix is not None or inpainted:
            value = torch.zeros_like(first)
            if prefix is not None:
                known = torch.from_numpy(prefix).to(device, dtype)
                value[:, rows, :a] = self.model.acted.normalized(known)
            if inpainted:
                value[:, :n, a:] = self.model.observed.normalized(seen)
            edit = chain(edit, Inpaint(shape.known(counts), value))
        training = self.model.training  # the model may be in training; acting has no dropout
        self.model.eval()
        try:
            x: Tensor = sample(denoise, self.solver, first, self.times, edit=edit, generator=own)
        finally:
            self.model.train(training)
        chunks = self.model.in_units(x).cpu().double().numpy()
        if not np.isfinite(chunks).all():
            raise ValueError(f"policy: the network made actions that are not finite; {DAMAGED}")
        if prefix is not None:
            chunks[:, rows] = prefix  # exactly, without rounding
        return chunks

    def _drawing(self, count: int, environments: Int[np.ndarray, " B"] | None) -> list[torch.Generator]:
        """The generators of these environments, each made when it is first used."""
        which = list(range(count)) if environments is None else np.asarray(environments).tolist()
        if len(which) != count or len(set(which)) != count or min(which) < 0:
            raise ValueError(
                f"policy: environments must be {count} different numbers from 0 on, got {which[:8]}"
            )
        have = len(self._generators)
        self._generators += generators(self._seed, max(0, max(which) + 1 - have), first=have)
        return [self._generators[i] for i in which]


def marks(rows: object, count: int | None) -> Bool[np.ndarray, " B"] | None:
    """The mask of the environments to reset, None for all.

    Raises:
        ValueError: anything but one bool for each of `count` environments.
    """
    if rows is None:
        return None
    mask = np.asarray(rows)
    if mask.dtype != np.bool_ or mask.ndim != 1 or (count is not None and len(mask) != count):
        needed = "one bool for each environment" + ("" if count is None else f", shape ({count},)")
        raise ValueError(f"policy: reset needs {needed}, got {mask.dtype} of shape {mask.shape}")
    return mask
