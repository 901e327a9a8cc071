"""Acting by a diffusion policy: see, predict a chunk of actions, execute some of them, see again. Chi et al. 2023, section III."""

from functools import partial

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from unveil.apps.policy_model import PolicyModel
from unveil.data.chunks import check_window
from unveil.network.fast_conditional_unet1d import FastConditionalUNet
from unveil.process.denoised import GaussianDenoised
from unveil.process.grid import trailing, uniform
from unveil.process.schedule import Tabulated
from unveil.sampling.edit import Edit, Inpaint, chain, identity
from unveil.sampling.guidance import Guidance, clipped
from unveil.sampling.loop import Solver, sample
from unveil.sampling.noise import normal_like


class Policy:
    """`act` maps observations (B, D) to actions (B, A) in the data's units; one decision serves `n_action` calls.

    Every environment has its own history and queue: `reset(rows)` starts some of them anew, and those decide again with the next call
    while the others go on. An environment's first observation counts for all that it has not seen yet.

    Args:
        solver: on the model's schedule, such as `DDIM(model.denoiser.schedule)`; published is `Ancestral`.
        steps: network calls of a decision (twice as many with `Heun`).
        n_action: actions to execute of each chunk; by default the shape's.
        temperature: factor on the initial noise.
        clip: clamp every belief to [-1, 1], the limits of the data's actions, as published.
        seed: of all noise.
    Attributes:
        steer: guidance of every belief, before it is clamped: `policy.steer = costing(policy.model, cost, scale)`.
        chunks: (B, H, A), what each environment last predicted; row n_obs - 1 is the first that was executed.
        decisions: number of calls that predicted.
    Raises:
        ValueError: steps < 1 or more than the table has, or n_action that the chunk does not hold.
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
        self.model = model.eval()
        self.solver, self.temperature, self.clip = solver, temperature, clip
        schedule = model.denoiser.schedule
        self.times = trailing(schedule.steps, steps) if isinstance(schedule, Tabulated) else uniform(steps)
        self.n_action = model.shape.n_action if n_action is None else n_action
        check_window(model.shape.n_obs, model.shape.horizon, self.n_action)
        self._generator = torch.Generator(device="cpu").manual_seed(seed)
        self.decisions = 0
        self.steer: Guidance | None = None
        self.reset()

    @property
    def executed(self) -> slice:
        """The rows of a chunk that are carried out."""
        first = self.model.shape.n_obs - 1
        return slice(first, first + self.n_action)

    def reset(self, rows: Bool[np.ndarray, " B"] | None = None) -> None:
        """Forget what was seen and planned, of all environments or of the marked ones."""
        if rows is None or self.chunks is None:
            self.chunks = None
            self._seen: np.ndarray = np.zeros((0, 0, 0), np.float32)
            self._place: np.ndarray = np.zeros(0, np.int64)
        else:
            self._place[rows] = -1

    def act(self, observations: Float[np.ndarray, "B D"]) -> Float[np.ndarray, "B A"]:
        """The next action of every environment.

        Raises:
            ValueError: observations of another size, not finite, or of another number of environments than before without a `reset`.
        """
        shape, count = self.model.shape, len(observations)
        self.check(observations)
        if self.chunks is None:
            self.chunks = np.zeros((count, shape.horizon, shape.actions))
            self._seen = np.zeros((count, shape.n_obs, shape.observations), np.float32)
            self._place = np.full(count, -1)
        if len(self.chunks) != count:
            raise ValueError(f"policy: {len(self.chunks)} environments before, {count} now; call reset() in between")
        fresh = self._place < 0
        self._seen = np.concatenate([self._seen[:, 1:], observations[:, None].astype(np.float32)], axis=1)
        self._seen[fresh] = observations[fresh, None]
        deciding = fresh | (self._place >= self.n_action)
        if deciding.any():
            self.chunks[deciding] = self.predict(self._seen[deciding])
            self._place[deciding] = 0
            self.decisions += 1
        actions = self.chunks[np.arange(count), shape.n_obs - 1 + self._place]
        self._place += 1
        return actions

    def check(self, observations: Float[np.ndarray, "B D"]) -> None:
        """Refuse what is no observation of this policy.

        Raises:
            ValueError: of another size, or not finite.
        """
        size = self.model.shape.observations
        if observations.ndim != 2 or observations.shape[1] != size:
            raise ValueError(f"policy: observations must have shape (B, {size}), got {observations.shape}")
        if not np.isfinite(observations).all():
            raise ValueError("policy: observations must be finite numbers")

    @torch.no_grad()
    def predict(
        self,
        observations: Float[np.ndarray, "B n_obs D"],
        prefix: Float[np.ndarray, "B d A"] | None = None,
        *,
        steer: Guidance | None = None,
        edit: Edit = identity,
    ) -> Float[np.ndarray, "B H A"]:
        """A chunk of actions for each history of observations, the newest last, drawn from the policy.

        Args:
            prefix: actions from the newest observation's on that will be carried out whatever comes: they stand in the chunk as they are,
                the network is told of them and the others are drawn given them. By `Inpaint`, since training had them clean too.
            steer: guidance beside that of the attribute.
            edit: of the state, in normalised units.
        Raises:
            ValueError: a longer prefix than the network was trained with.
        """
        shape, device = self.model.shape, self.model.device
        count, length = len(observations), 0 if prefix is None else prefix.shape[1]
        if length > shape.prefix:
            raise ValueError(
                f"policy: trained with known prefixes of up to {shape.prefix} actions, got {length}; train with --prefix {length}"
            )
        counts = torch.full((count,), length, device=device)
        seen = torch.from_numpy(observations).to(device, torch.float32)
        cond = self.model.condition(seen, counts)
        network = self.model.denoiser.network
        if isinstance(network, FastConditionalUNet) and network.plain.vector:
            cond = network.prefill(cond)
        noise = self.temperature * normal_like(torch.empty((count, shape.horizon, shape.row), device=device), self._generator)
        denoise = partial(self.model.denoiser, cond=cond)
        for guide in (self.steer, steer):
            denoise = denoise if guide is None else guide(denoise)
        denoise = clipped(denoise, -1.0, 1.0) if self.clip else denoise
        rows = slice(shape.n_obs - 1, shape.n_obs - 1 + length)
        inpainted = shape.told == "inpainting"
        if prefix is not None or inpainted:
            value = torch.zeros_like(noise)
            if prefix is not None:
                value[:, rows, : shape.actions] = self.model.acted.normalized(torch.from_numpy(prefix).to(device, torch.float32))
            if inpainted:
                value[:, : shape.n_obs, shape.actions :] = self.model.observed.normalized(seen)
            edit = chain(edit, Inpaint(shape.known(counts), value))
        x: Tensor = sample(denoise, self.solver, noise, self.times, edit=edit, generator=self._generator)
        chunks = self.model.acted.denormalized(x[..., : shape.actions]).cpu().double().numpy()
        if prefix is not None:
            chunks[:, rows] = prefix  # the same to the last bit
        return chunks
