"""The model of a diffusion policy: a denoiser of chunks of actions, conditioned on observations.

Chi et al. 2023, arXiv:2303.04137.
"""

from dataclasses import dataclass
from functools import partial
from math import prod
from typing import Annotated, Literal

import torch
from torch import Tensor, nn

from unveil.checks import Bounds, check_fields
from unveil.network.condition import Condition
from unveil.network.normalization import Normalization
from unveil.policy.data.chunks import check_window
from unveil.policy.networks.conditional_unet1d import ConditionalUNet
from unveil.policy.networks.conditional_unet1d_inference import FastConditionalUNet
from unveil.policy.networks.observation import ObservationEncoder, Part
from unveil.process.denoiser import GaussianDenoiser
from unveil.process.grid import Grid, trailing, uniform
from unveil.process.parameterization import eps, flow, v, x0
from unveil.process.schedule import Flow, Schedule, Tabulated, cosine_betas, tabulated

Count = Annotated[int, Bounds(1)]
STILL = 1e-3  # normalised range below which an action is constant in the data; all others have the range 2


@dataclass(frozen=True)
class PolicyShape:
    """Sizes and conventions of a policy. See `Chunks` for the table of a window.

    Args:
        observations, actions: D and A, the numbers of an observation and of an action.
        n_obs: observations that a decision is conditioned on, the newest last.
        horizon: H, predicted actions, the first beside the oldest observation.
        n_action: actions that are executed before the next decision, beginning at the newest observation.
        diffusion_steps: T, the steps of the squared-cosine schedule; for `flow` only the scale of the
            network's time.
        predicts: the meaning of the network's output; `flow` is the velocity of flow matching's straight
            path.
        condition: how the network is conditioned on observations. film: on one vector (B, n_obs D). tokens:
            on a sequence (B, n_obs, D). inpainting: rows of a chunk are (action, observation) of A + D
            numbers; the observations of the first n_obs rows are known and clean (`Inpaint`), those of the
            other rows are predicted like actions (Chi et al. 2023, "diffusion conditioned by inpainting";
            Janner et al. 2022).
        prefix: P, the largest number of actions, beginning at the newest observation, that may be known and
            clean: those that are executed while the chunk is computed. The vector, or every token, gains P
            numbers: 1 for each known action, else 0.
        parts: named parts of an observation: one after another, flattened, they are its D numbers. Images
            are (C, h, w), colours 0 .. 255, and the network is conditioned on an encoder's features of them.
            Empty for observations of numbers without names.
    Raises:
        ValueError: horizon < n_obs + n_action - 1, a number below 1 or not whole, an unknown word, a prefix
            that leaves no action to predict, or parts that do not add up to an observation.
    """

    observations: Count
    actions: Count
    n_obs: Count = 2
    horizon: Count = 16
    n_action: Count = 8
    diffusion_steps: Count = 100
    predicts: Literal["eps", "x0", "v", "flow"] = "eps"
    condition: Literal["film", "tokens", "inpainting"] = "film"
    prefix: Annotated[int, Bounds(0)] = 0
    parts: tuple[Part, ...] = ()

    def __post_init__(self) -> None:
        check_fields(self)
        check_window(self.n_obs, self.horizon, self.n_action)
        if self.prefix > (most := self.horizon - self.n_obs):
            raise ValueError(f"policy: the prefix must be 0 .. horizon - n_obs = {most}, got {self.prefix}")
        if self.condition == "inpainting" and self.images:
            raise ValueError(
                "policy: observations with images cannot be inpainted; observations of numbers can"
            )
        if self.parts and sum(self.sizes) != self.observations:
            shapes = " and ".join(str(part.shape) for part in self.parts)
            raise ValueError(
                f"policy: the parts {shapes} do not add up to {self.observations} observed numbers"
            )

    @property
    def images(self) -> tuple[Part, ...]:
        """The parts that are images."""
        return tuple(part for part in self.parts if part.encoder is not None)

    @property
    def numbers(self) -> int:
        """Observed numbers that are not pixels."""
        return self.observations - sum(prod(part.shape) for part in self.images)

    @property
    def sizes(self) -> list[int]:
        """The size of each part of an observation, flattened."""
        return [prod(part.shape) for part in self.parts]

    @property
    def row(self) -> int:
        """Numbers of a denoised row: A, or A + D where observations are inpainted."""
        return self.actions + (self.observations if self.condition == "inpainting" else 0)

    def known(self, counts: Tensor) -> Tensor:
        """Mask of the known numbers of a chunk: the first `counts` (B,) actions from row n_obs - 1 on.

        Returns:
            (B, H, 1) bool, or where observations are inpainted (B, H, row), in which those of the first n_obs
            rows are known, too.
        """
        row = torch.arange(self.horizon, device=counts.device) - (self.n_obs - 1)
        known = ((row >= 0) & (row < counts[:, None]))[..., None]
        if self.condition != "inpainting":
            return known
        seen = (torch.arange(self.horizon, device=counts.device) < self.n_obs)[None, :, None]
        return torch.cat(
            [known.expand(-1, -1, self.actions), seen.expand(len(counts), -1, self.observations)], dim=2
        )

    def rows(self, actions: Tensor, observations: Tensor) -> Tensor:
        """Rows (B, H, row) of normalised actions (B, H, A), beside observations where they are inpainted.

        The observations (B, n, D) stand in the first n rows, with 0 below.
        """
        if self.condition != "inpainting":
            return actions
        below = self.horizon - observations.shape[1]
        return torch.cat([actions, nn.functional.pad(observations, (0, 0, 0, below))], dim=2)


class PolicyModel(nn.Module):
    """Denoiser of actions (B, H, A), and the limits that map the data's units to [-1, 1].

    All of them are in the weights.

    Args:
        network: (x (B, H, A), time (B,) in 0 .. T - 1, condition) -> (B, H, A).
        encoder: encoder of the shape's parts, if there are any.
        pictured: each channel of an image has limits in the weights, as in converted policies; else 0 becomes
            -1 and 255 becomes 1.
    Attributes:
        denoiser: the network with its schedule and parameterization.
        observed: normalisation of the observed numbers that are not pixels.
        acted: normalisation of the actions.
    """

    def __init__(
        self,
        shape: PolicyShape,
        network: nn.Module,
        encoder: ObservationEncoder | None = None,
        *,
        pictured: bool = False,
    ) -> None:
        super().__init__()
        self.shape = shape
        parameterization = {"eps": eps, "x0": x0, "v": v, "flow": flow}[shape.predicts]
        self.denoiser = GaussianDenoiser(
            network, policy_schedule(shape), parameterization, partial(_index, shape.diffusion_steps)
        )
        self.encoder = encoder
        self.observed = Normalization(shape.numbers)
        self.acted = Normalization(shape.actions)
        self.pictured = (
            nn.ModuleList(Normalization(part.shape[0]) for part in shape.images) if pictured else None
        )

    @property
    def device(self) -> torch.device:
        """The device of the weights."""
        return self.acted.low.device

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of the weights: float32, unless the model was converted by `.double()` or the like."""
        return self.acted.low.dtype

    def condition(
        self, observations: Tensor, counts: Tensor | None = None, crops: torch.Generator | None = None
    ) -> Condition:
        """The network's condition on observations (B, n_obs, D) in the data's units.

        Args:
            counts: (B,), the number of known actions; by default none.
            crops: generator of random crops of the images, for training; without it crops are central.
        """
        prefix = self.shape.prefix
        observations = observations[:, :0] if self.shape.condition == "inpainting" else observations
        features = (  # (B, n_obs, V)
            self.observed.normalized(observations)
            if self.encoder is None
            else self.encoder(self.normalized(observations), crops)
        )
        known = torch.zeros((features.shape[0], prefix), device=features.device, dtype=features.dtype)
        if counts is not None:
            known = known + (torch.arange(prefix, device=known.device) < counts.to(known.device)[:, None])
        if self.shape.condition == "tokens":
            tokens = torch.cat([features, known[:, None].expand(-1, features.shape[1], -1)], dim=2)
            return Condition(tokens=tokens)
        return Condition(vector=torch.cat([features.flatten(1), known], dim=1))

    def in_units(self, x: Tensor) -> Tensor:
        """The actions (B, H, A) of normalised rows (B, H, row), in the data's units.

        An action that never changes in the data, such as a gripper that stays open, is that constant: its
        scale has no meaning, so that a small error of the network would be a large one in the data's units.
        """
        acted = self.acted
        middle = acted.denormalized((acted.least + acted.most) / 2.0)
        still = acted.most - acted.least < STILL
        return torch.where(still, middle, acted.denormalized(x[..., : self.shape.actions]))

    def normalized(self, observations: Tensor) -> dict[str, Tensor]:
        """The normalised parts of observations (B, n, D) in the data's units, by key, for the encoder."""
        pieces = observations.split(self.shape.sizes, dim=-1)
        pairs = list(zip(self.shape.parts, pieces, strict=True))
        plain = {part.key: piece for part, piece in pairs if part.encoder is None}
        images = [(part, piece) for part, piece in pairs if part.encoder is not None]
        numbers = torch.cat([observations[..., :0], *plain.values()], dim=-1)
        rows = self.observed.normalized(numbers).split([piece.shape[-1] for piece in plain.values()], dim=-1)
        normalized = dict(zip(plain, rows, strict=True))
        for i, (part, piece) in enumerate(images):
            pixels = piece.unflatten(-1, part.shape)  # (B, n, C, h, w)
            limits = None if self.pictured is None else self.pictured[i]
            if isinstance(limits, Normalization):
                last = limits.normalized(pixels.movedim(-3, -1))
                normalized[part.key] = last.movedim(-1, -3).contiguous()
            else:
                normalized[part.key] = pixels / 127.5 - 1.0
        return normalized


def policy_schedule(shape: PolicyShape) -> Schedule:
    """The published squared-cosine schedule of T steps, or flow matching's straight path."""
    return Flow() if shape.predicts == "flow" else tabulated(cosine_betas(shape.diffusion_steps))


def times_of(schedule: Schedule, steps: int) -> Grid:
    """The times of a sample with this number of steps."""
    return trailing(schedule.steps, steps) if isinstance(schedule, Tabulated) else uniform(steps)


def _index(steps: int, t: Tensor) -> Tensor:
    return steps * t - 1.0


def fast_policy(model: PolicyModel) -> PolicyModel:
    """A copy of a U-Net's model on the CPU with a `FastConditionalUNet`; other models unchanged."""
    network = model.denoiser.network
    if model.device.type != "cpu" or not isinstance(network, ConditionalUNet):
        return model
    copy = PolicyModel(model.shape, FastConditionalUNet(network), model.encoder)
    copy.observed, copy.acted, copy.pictured = model.observed, model.acted, model.pictured
    return copy.eval()
