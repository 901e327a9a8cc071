"""Acting by a diffusion policy: see, predict a chunk of actions, execute some of them, see again. Chi et al. 2023, section III."""

from functools import partial

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from unveil.arrays import axes_of, numbers
from unveil.checks import flag, kind, number, whole
from unveil.policy.data.chunks import check_window
from unveil.policy.finite_actions import DAMAGED, finite, finite_edit
from unveil.policy.model import PolicyModel
from unveil.policy.networks.conditional_unet1d_inference import FastConditionalUNet
from unveil.policy.networks.observation import parts_text
from unveil.process.denoised import GaussianDenoise, GaussianDenoised
from unveil.process.grid import trailing, uniform
from unveil.process.schedule import Tabulated
from unveil.sampling.edit import Edit, Inpaint, chain, identity
from unveil.sampling.guidance import Guidance, clipped
from unveil.sampling.loop import Solver, sample
from unveil.sampling.noise import Noise, Recorded, generators, normal_like


class Policy:
    """`act` maps observations (B, D) to actions (B, A) in the data's units; one decision serves `n_action` calls.

    Every environment has its own history and queue: `reset(rows)` starts some of them anew, and those decide again with the next call
    while the others go on. An environment's first observation counts for all that it has not seen yet.

    Environment i draws from its own generator, of seed + i: its actions depend neither on how many others there are nor on which of them
    decide in the same call, up to the rounding of batched products. `reset` does not rewind the generators.

    Args:
        solver: on the model's schedule, such as `DDIM(model.denoiser.schedule)`; published is `Ancestral`.
        steps: network calls of a decision (twice as many with `Heun`).
        n_action: actions to execute of each chunk; by default the shape's.
        temperature: factor on the initial noise that is drawn.
        clip: clamp every belief to [-1, 1], the limits of the data's actions, as published.
        seed: of the first environment's noise.
    Attributes:
        steer: guidance of every belief, before it is clamped: `policy.steer = costing(policy.model, cost, scale)`.
        chunks: (B, H, A), what each environment last predicted; row n_obs - 1 is the first that was executed.
        decisions: number of calls that predicted.
    Raises:
        ValueError: steps < 1 or more than the table has, n_action that the chunk does not hold, a temperature that is not finite or below
            0, a seed below 0, or something of another type.
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
        self.model = model.eval()
        self.solver, self.temperature, self.clip = (
            solver,
            number("policy: temperature", temperature, 0.0),
            flag("policy: clip", clip),
        )
        schedule = model.denoiser.schedule
        steps = whole("policy: steps", steps, 1, schedule.steps if isinstance(schedule, Tabulated) else None)
        self.times = trailing(schedule.steps, steps) if isinstance(schedule, Tabulated) else uniform(steps)
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
        """The rows of a chunk that are carried out."""
        first = self.model.shape.n_obs - 1
        return slice(first, first + self.n_action)

    def reset(self, rows: Bool[np.ndarray, " B"] | None = None) -> None:
        """Forget what was seen and planned, of all environments or of the marked ones.

        Raises:
            ValueError: marks that are not one bool for each environment.
        """
        rows = marks(rows, None if self.chunks is None else len(self.chunks))
        if rows is None or self.chunks is None:
            self.chunks = None
            self._seen: np.ndarray = np.zeros((0, 0, 0), np.float32)
            self._place: np.ndarray = np.zeros(0, np.int64)
        else:
            self._place[rows] = -1

    def act(
        self, observations: Float[np.ndarray, "B D"], *, noise: np.ndarray | Tensor | None = None
    ) -> Float[np.ndarray, "B A"]:
        """The next action of every environment.

        Args:
            noise: as of `predict`, of all environments; read for those that decide in this call.
        Raises:
            ValueError: observations of another size, not finite, or of another number of environments than before without a `reset`; or
                actions that are not finite, and what made them so.
        """
        observations = self.check(observations)
        shape, count = self.model.shape, len(observations)
        noise = None if noise is None else self.check_noise(noise, count)
        if self.chunks is None:
            self.chunks = np.zeros((count, shape.horizon, shape.actions))
            self._seen = np.zeros((count, shape.n_obs, shape.observations), np.float32)
            self._place = np.full(count, -1)
        if len(self.chunks) != count:
            raise ValueError(
                f"policy: {len(self.chunks)} environments before, {count} now; call reset() in between"
            )
        fresh = self._place < 0
        self._seen = np.concatenate([self._seen[:, 1:], observations[:, None]], axis=1)
        self._seen[fresh] = observations[fresh, None]
        deciding = fresh | (self._place >= self.n_action)
        if deciding.any():
            given = None if noise is None else noise[:, deciding]
            self.chunks[deciding] = self.predict(
                self._seen[deciding], noise=given, environments=np.flatnonzero(deciding)
            )
            self._place[deciding] = 0
            self.decisions += 1
        actions = self.chunks[np.arange(count), shape.n_obs - 1 + self._place]
        self._place += 1
        return actions

    def check(self, observations: object) -> Float[np.ndarray, "B D"]:
        """Observations as float32; refuse what is no observation of this policy.

        Raises:
            ValueError: of another size (one alone, too, which is given as `observation[None]`), or not finite.
        """
        shape = self.model.shape
        order = f" ({parts_text(shape.parts)}, side by side)" if shape.parts else ""
        size = shape.observations
        return numbers(f"policy: observations{order}", observations, (None, size), f"(B, {size})").astype(
            np.float32
        )

    def check_noise(self, noise: object, count: int) -> Float[np.ndarray, "S B H row"]:
        """Recorded noise as float32, (B, H, row) as (1, B, H, row).

        Raises:
            ValueError: of another shape than (count, H, row) or (1 + S, count, H, row), or not finite.
        """
        size = (count, self.model.shape.horizon, self.model.shape.row)
        every = axes_of(noise) == len(size) + 1
        shape = (None, *size) if every else size
        found = numbers(
            "policy: noise", noise, shape, f"{size} or (1 + steps, {', '.join(map(str, size))})"
        ).astype(np.float32)
        return found if every else found[None]

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
        """A chunk of actions for each history of observations, the newest last, drawn from the policy.

        Args:
            prefix: actions from the newest observation's on that will be carried out whatever comes: they stand in the chunk as they are,
                the network is told of them and the others are drawn given them. By `Inpaint`, since training had them clean too.
            steer: guidance beside that of the attribute.
            edit: of the state, in normalised units.
            noise: (B, H, row), recorded standard normal noise to begin with, in place of drawn noise; `temperature` does not scale it. Rows
                have A numbers, or A + D where observations are inpainted. Or (1 + S, B, H, row): the first to begin with, the others are
                what a solver with noise draws in each of its S steps; else that is drawn as ever.
            environments: whose generators draw, one number for each row; by default 0 .. B - 1.
        Raises:
            ValueError: a longer prefix than the network was trained with, an array of another shape or not finite, or actions that are not
                finite, and what made them so: guidance, the edit, or the weights.
        """
        shape, device, dtype = self.model.shape, self.model.device, self.model.dtype
        size = (shape.n_obs, shape.observations)
        observations = numbers(
            "policy: observations", observations, (None, *size), f"(B, {size[0]}, {size[1]})"
        )
        count = len(observations)
        if prefix is not None:
            prefix = numbers(
                "policy: prefix", prefix, (count, None, shape.actions), f"({count}, d, {shape.actions})"
            )
        length = 0 if prefix is None else prefix.shape[1]
        if length > shape.prefix:
            raise ValueError(
                f"policy: trained with known prefixes of up to {shape.prefix} actions, got {length}; train with --prefix {length}"
            )
        counts = torch.full((count,), length, device=device)
        seen = torch.from_numpy(observations).to(device, dtype)
        cond = self.model.condition(seen, counts)
        network = self.model.denoiser.network
        if isinstance(network, FastConditionalUNet) and network.plain.vector:
            cond = network.prefill(cond)
        own: Noise = self._drawing(count, environments)
        if noise is None:
            first = (
                self.temperature
                * normal_like(torch.empty((count, shape.horizon, shape.row), device=device), own)
            ).to(dtype)
        else:
            first, *later = torch.from_numpy(self.check_noise(noise, count)).to(device, dtype)
            own = Recorded(later) if later else own
        denoise: GaussianDenoise = partial(self.model.denoiser, cond=cond)
        guides = {
            name: guide
            for name, guide in (("policy.steer", self.steer), ("steer=", steer))
            if guide is not None
        }
        if guides:
            denoise = finite(
                denoise,
                "the network, under guidance,",
                f"give a smaller scale; if it does without guidance too, {DAMAGED}",
            )
        for name, guide in guides.items():
            denoise = finite(
                guide(denoise),
                f"guidance ({name})",
                "give a smaller scale, or a cost whose gradient is finite everywhere",
            )
        denoise = clipped(denoise, -1.0, 1.0) if self.clip else denoise
        rows = slice(shape.n_obs - 1, shape.n_obs - 1 + length)
        edit = edit if edit is identity else finite_edit(edit)
        inpainted = shape.condition == "inpainting"
        if prefix is not None or inpainted:
            value = torch.zeros_like(first)
            if prefix is not None:
                value[:, rows, : shape.actions] = self.model.acted.normalized(
                    torch.from_numpy(prefix).to(device, dtype)
                )
            if inpainted:
                value[:, : shape.n_obs, shape.actions :] = self.model.observed.normalized(seen)
            edit = chain(edit, Inpaint(shape.known(counts), value))
        training = self.model.training  # set by whoever trains it on; acting has no dropout
        self.model.eval()
        try:
            x: Tensor = sample(denoise, self.solver, first, self.times, edit=edit, generator=own)
        finally:
            self.model.train(training)
        chunks = self.model.acted.denormalized(x[..., : shape.actions]).cpu().double().numpy()
        if not np.isfinite(chunks).all():
            raise ValueError(f"policy: the network made actions that are not finite; {DAMAGED}")
        if prefix is not None:
            chunks[:, rows] = prefix  # the same to the last bit
        return chunks

    def _drawing(self, count: int, environments: Int[np.ndarray, " B"] | None) -> list[torch.Generator]:
        """The generators of these environments; each is made when it is first needed."""
        which = list(range(count)) if environments is None else np.asarray(environments).tolist()
        if len(which) != count or len(set(which)) != count or min(which) < 0:
            raise ValueError(
                f"policy: environments must be {count} different numbers from 0 on, got {which[:8]}"
            )
        have = len(self._generators)
        self._generators += generators(self._seed, max(0, max(which) + 1 - have), first=have)
        return [self._generators[i] for i in which]


def marks(rows: object, count: int | None) -> Bool[np.ndarray, " B"] | None:
    """Which environments are meant, None for all.

    Raises:
        ValueError: anything but one bool for each of `count` environments.
    """
    if rows is None:
        return None
    found = np.asarray(rows)
    if found.dtype != np.bool_ or found.ndim != 1 or (count is not None and len(found) != count):
        needed = "one bool for each environment" + ("" if count is None else f", shape ({count},)")
        raise ValueError(f"policy: reset needs {needed}, got {found.dtype} of shape {found.shape}")
    return found
