"""What a diffusion policy learns: a denoiser of chunks of actions, told what was observed. Chi et al. 2023 (arXiv:2303.04137)."""

from dataclasses import dataclass
from functools import partial
from math import prod
from typing import Literal

import torch
from torch import Tensor, nn

from unveil.checks import one_of, whole
from unveil.network.condition import Condition
from unveil.network.normalization import Normalization
from unveil.policy.data.chunks import check_window
from unveil.policy.networks.conditional_unet1d import ConditionalUNet
from unveil.policy.networks.conditional_unet1d_inference import FastConditionalUNet
from unveil.policy.networks.observation import ObservationEncoder, Part
from unveil.process.denoiser import GaussianDenoiser
from unveil.process.parameterization import eps, flow, v, x0
from unveil.process.schedule import Flow, Schedule, cosine_betas, tabulated


@dataclass(frozen=True)
class PolicyShape:
    """What a policy sees, predicts and does. See `Chunks` for the table of a window.

    Args:
        observations, actions: D and A, numbers of each.
        n_obs: observations that a decision sees, the newest last.
        horizon: H, actions that are predicted, the first beside the oldest observation.
        n_action: actions that are executed before the next decision, from the newest observation's on.
        diffusion_steps: T, of the squared-cosine table; for `flow` only the scale of the network's time.
        predicts: what the network's output means; `flow` is the velocity of flow matching's straight path.
        told: how the network is told observations. film: as one vector (B, n_obs D). tokens: as a sequence (B, n_obs, D). inpainting: rows
            of a chunk are (action, observation) of A + D numbers; observations of the first n_obs rows are known and clean (`Inpaint`),
            those of the others are predicted like actions (Chi et al. 2023, "diffusion conditioned by inpainting"; Janner et al. 2022).
        prefix: P, the largest number of actions, from the newest observation's on, that may be known and clean: those that are carried out
            while the chunk is computed. The vector, or every token, gains P numbers: 1 for each that is known.
        parts: of an observation that holds images, which are C, h, w of 0 .. 255: one after another, flattened, they are its D numbers. The
            network is told an encoder's features in their place. None where an observation is numbers alone.
    Raises:
        ValueError: horizon < n_obs + n_action - 1, a number below 1 or no whole number, an unknown word, a prefix that leaves no action to
            predict, or parts that are not an observation.
    """

    observations: int
    actions: int
    n_obs: int = 2
    horizon: int = 16
    n_action: int = 8
    diffusion_steps: int = 100
    predicts: Literal["eps", "x0", "v", "flow"] = "eps"
    told: Literal["film", "tokens", "inpainting"] = "film"
    prefix: int = 0
    parts: tuple[Part, ...] = ()

    def __post_init__(self) -> None:
        for name in ("observations", "actions", "n_obs", "horizon", "n_action", "diffusion_steps"):
            whole(f"policy: {name}", getattr(self, name))
        whole("policy: prefix", self.prefix, 0)
        one_of("policy: predicts", self.predicts, ("eps", "x0", "v", "flow"))
        one_of("policy: told", self.told, ("film", "tokens", "inpainting"))
        check_window(self.n_obs, self.horizon, self.n_action)
        if not 0 <= self.prefix <= self.horizon - self.n_obs:
            raise ValueError(
                f"policy: the prefix must be 0 .. horizon - n_obs = {self.horizon - self.n_obs}, got {self.prefix}"
            )
        if self.told == "inpainting" and self.parts:
            raise ValueError("policy: pictures cannot be inpainted; observations of numbers can")
        if self.parts and sum(self.sizes) != self.observations:
            raise ValueError(
                f"policy: {self.observations} observed numbers are not {' and '.join(str(part.shape) for part in self.parts)}"
            )

    @property
    def numbers(self) -> int:
        """Observed numbers that are no pixels."""
        return (
            sum(part.shape[0] for part in self.parts if part.encoder is None)
            if self.parts
            else self.observations
        )

    @property
    def sizes(self) -> list[int]:
        """How many numbers of an observation each part has."""
        return [prod(part.shape) for part in self.parts]

    @property
    def row(self) -> int:
        """Numbers of a row that is denoised: A, or A + D where observations are inpainted."""
        return self.actions + (self.observations if self.told == "inpainting" else 0)

    @property
    def executed(self) -> slice:
        """The rows of a chunk that are executed."""
        return slice(self.n_obs - 1, self.n_obs - 1 + self.n_action)

    def known(self, counts: Tensor) -> Tensor:
        """(B, H, 1) bool: the first `counts` (B,) actions from the newest observation's on, rows n_obs - 1 .. n_obs - 2 + count.

        Where observations are inpainted (B, H, row), and those of the first n_obs rows are known, too.
        """
        row = torch.arange(self.horizon, device=counts.device) - (self.n_obs - 1)
        known = ((row >= 0) & (row < counts[:, None]))[..., None]
        if self.told != "inpainting":
            return known
        seen = (torch.arange(self.horizon, device=counts.device) < self.n_obs)[None, :, None]
        return torch.cat(
            [known.expand(-1, -1, self.actions), seen.expand(len(counts), -1, self.observations)], dim=2
        )

    def rows(self, actions: Tensor, observations: Tensor) -> Tensor:
        """(B, H, row): normalised actions (B, H, A) and, where they are inpainted, observations (B, n, D) of the first n rows, then 0."""
        if self.told != "inpainting":
            return actions
        return torch.cat(
            [actions, nn.functional.pad(observations, (0, 0, 0, self.horizon - observations.shape[1]))], dim=2
        )


class PolicyModel(nn.Module):
    """Denoiser of actions (B, H, A), and the limits by which the data's units become [-1, 1]; all of it is in the weights.

    Args:
        network: (x (B, H, A), time (B,) in 0 .. T - 1, condition) -> (B, H, A).
        encoder: of the shape's parts, where there are any.
        pictured: images have limits of each channel in the weights, as those of others do; else 0 becomes -1 and 255 becomes 1.
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
        images = [part for part in shape.parts if part.encoder is not None]
        self.pictured = nn.ModuleList(Normalization(part.shape[0]) for part in images) if pictured else None

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.acted.low.device

    @property
    def dtype(self) -> torch.dtype:
        """That of the weights: float32, unless the model was turned to another by `.double()` or its like."""
        return self.acted.low.dtype

    def condition(
        self, observations: Tensor, counts: Tensor | None = None, crops: torch.Generator | None = None
    ) -> Condition:
        """What the network is told of observations (B, n_obs, D) in the data's units, and of `counts` (B,) known actions, else none.

        Args:
            crops: pictures are cut at random by it, for training; else in the middle.
        """
        prefix = self.shape.prefix
        observations = observations[:, :0] if self.shape.told == "inpainting" else observations
        seen = (
            self.observed.normalized(observations)
            if self.encoder is None
            else self.encoder(self.normalized(observations), crops)
        )
        told = torch.zeros((len(seen), prefix), device=seen.device, dtype=seen.dtype)
        if counts is not None:
            told = told + (torch.arange(prefix, device=seen.device) < counts.to(seen.device)[:, None])
        if self.shape.told == "tokens":
            return Condition(tokens=torch.cat([seen, told[:, None].expand(-1, seen.shape[1], -1)], dim=2))
        return Condition(vector=torch.cat([seen.flatten(1), told], dim=1))

    def in_units(self, x: Tensor) -> Tensor:
        """Actions (B, H, A), in the data's units, of normalised rows (B, H, row)."""
        return self.acted.denormalized(x[..., : self.shape.actions])

    def normalized(self, observations: Tensor) -> dict[str, Tensor]:
        """The parts of observations (B, n, D) in the data's units, by key, as the encoder wants them."""
        parts, pieces = self.shape.parts, observations.split(self.shape.sizes, dim=-1)
        plain = [(part, piece) for part, piece in zip(parts, pieces, strict=True) if part.encoder is None]
        rows = self.observed.normalized(
            torch.cat([observations[..., :0], *(piece for _, piece in plain)], dim=-1)
        )
        found = {
            part.key: row
            for (part, _), row in zip(plain, rows.split([p.shape[0] for p, _ in plain], dim=-1), strict=True)
        }
        images = [
            (part, piece) for part, piece in zip(parts, pieces, strict=True) if part.encoder is not None
        ]
        for i, (part, piece) in enumerate(images):
            pixels = piece.unflatten(-1, part.shape)
            limits = None if self.pictured is None else self.pictured[i]
            if isinstance(limits, Normalization):
                found[part.key] = limits.normalized(pixels.movedim(-3, -1)).movedim(-1, -3).contiguous()
            else:
                found[part.key] = pixels / 127.5 - 1.0
        return found


def policy_schedule(shape: PolicyShape) -> Schedule:
    """The squared-cosine table of T steps as published, or flow matching's straight path."""
    return Flow() if shape.predicts == "flow" else tabulated(cosine_betas(shape.diffusion_steps))


def _index(steps: int, t: Tensor) -> Tensor:
    return steps * t - 1.0


def fast_policy(model: PolicyModel) -> PolicyModel:
    """The policy's model with its U-Net as a `FastConditionalUNet`; any other network stays as it is. The model given is not changed."""
    network = model.denoiser.network
    made = PolicyModel(
        model.shape,
        FastConditionalUNet(network) if isinstance(network, ConditionalUNet) else network,
        model.encoder,
    )
    made.observed, made.acted, made.pictured = model.observed, model.acted, model.pictured
    return made.eval()
