"""What Diffuser learns: a denoiser of trajectories of actions and observations, and a value of noisy ones. Janner et al. 2022."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from unveil.data.scales import constant_scale, is_constant
from unveil.network.condition import Condition
from unveil.network.layers import mlp
from unveil.network.unet1d import TemporalUNet
from unveil.network.value1d import ValueNetwork
from unveil.process.denoised import GaussianDenoise, GaussianDenoised
from unveil.process.denoiser import GaussianDenoiser
from unveil.process.parameterization import eps, x0
from unveil.process.schedule import Tabulated, cosine_betas, tabulated


@dataclass(frozen=True)
class TrajectoryShape:
    """What fixes the tensors of a `TrajectoryModel` or a `ValueModel`.

    Args:
        horizon: H, environment steps of a training window; other horizons work with the same weights.
        diffusion_steps: T, of the cosine schedule.
        actions, observations: numbers of each; a row of a trajectory is (actions, observations).
        width, multiples, attention: of the temporal U-Net.
        predicts: what the network's output means.
        inverse: plan observations only; the action that leads from one to the next is learned apart.
        returns: the denoiser may be told how good the return is that follows; see `asked`.
    """

    horizon: int
    diffusion_steps: int
    actions: int
    observations: int
    width: int = 32
    multiples: tuple[int, ...] = (1, 2, 4, 8)
    attention: bool = False
    predicts: Literal["x0", "eps"] = "x0"
    inverse: bool = False
    returns: bool = False

    @property
    def planned(self) -> slice:
        """What of a row (actions, observations) is planned."""
        return slice(self.actions if self.inverse else 0, None)

    @property
    def features(self) -> int:
        """Numbers of a planned row."""
        return self.observations + (0 if self.inverse else self.actions)

    def first_known(self, horizon: int) -> Tensor:
        """(1, H, features) bool: of a plan from a state on the observation of the first row is known."""
        known = torch.zeros((1, horizon, self.features), dtype=torch.bool, device="cpu")
        known[:, 0, -self.observations :] = True
        return known

    @property
    def stride(self) -> int:
        """Environment steps between two rows of a plan."""
        return 1


class Normalization(nn.Module):
    """x = 2 (row - low) / (high - low) - 1: `low` becomes -1 and `high` 1.

    With the data's limits this is the published `LimitsNormalizer`, with the mean minus and plus one deviation the `GaussianNormalizer`.
    A feature that hardly changes (`scales.is_constant`) is divided by 1, or by more if it is huge, so that it becomes 0. `least` and `most`
    are the smallest and largest normalised values in the data, for clipping; infinite where no data were seen.
    """

    low: Tensor
    high: Tensor
    least: Tensor
    most: Tensor

    def __init__(self, features: int) -> None:
        super().__init__()
        self.register_buffer("least", torch.full((features,), -torch.inf))
        self.register_buffer("most", torch.full((features,), torch.inf))
        self.register_buffer("low", -torch.ones(features))
        self.register_buffer("high", torch.ones(features))

    @property
    def learned(self) -> bool:
        """Whether data were seen: checkpoints of jannerm/diffuser alone do not hold these statistics."""
        return bool(torch.isfinite(self.least).all())

    def learn(self, rows: Float[np.ndarray, "N D"], kind: Literal["limits", "gaussian"], published: bool = False) -> tuple[int, ...]:
        """Set `low` and `high` from data in their own units; all statistics are taken in float64.

        Args:
            published: as the released normalisers do, only what does not change at all counts as constant.
        Returns:
            The features that vary by so little that they count as constant: worth a note.
        Raises:
            ValueError: no rows, or a number that is not finite.
        """
        if not len(rows):
            raise ValueError("normalization: no rows to learn from")
        least, most = rows.min(0).astype(np.float64), rows.max(0).astype(np.float64)
        if not np.isfinite(least + most).all():
            raise ValueError(f"normalization: feature {np.flatnonzero(~np.isfinite(least + most))[0]} holds numbers that are not finite")
        if kind == "limits":
            low, high = least, most
        else:
            mean, deviation = rows.mean(0, dtype=np.float64), rows.std(0, dtype=np.float64)
            low, high = mean - deviation, mean + deviation
        constant = high - low < 1e-6 if published else is_constant(high - low, np.maximum(np.abs(least), np.abs(most)))
        middle = (low + high) / 2.0
        half = constant_scale(middle)
        self.low.copy_(torch.from_numpy(np.where(constant, middle - half, low)))
        self.high.copy_(torch.from_numpy(np.where(constant, middle + half, high)))
        self.least.copy_(self.normalized(torch.from_numpy(least).to(self.low)))
        self.most.copy_(self.normalized(torch.from_numpy(most).to(self.low)))
        return tuple(np.flatnonzero(constant & (most > least)).tolist())

    def normalized(self, rows: Tensor, features: slice = slice(None)) -> Tensor:
        """(..., D) in the data's units to about [-1, 1]; `features` if the rows hold only some of the D."""
        low, high = self.low[features] / 2.0, self.high[features] / 2.0  # halves, whose difference does not overflow
        return 2.0 * ((rows / 2.0 - low) / (high - low)) - 1.0

    def denormalized(self, x: Tensor, features: slice = slice(None)) -> Tensor:
        """(..., D) back to the data's units."""
        low, high = self.low[features], self.high[features]
        return low + (x + 1.0) * (high / 2.0 - low / 2.0)


def asked(rank: Tensor) -> Condition:
    """The condition that tells a denoiser of returns: vector (B, 2) = (2 rank - 1, 1), or (0, 0) where the rank is NaN: anything goes.

    rank (B,) is the share of the data's returns that lie below the one that follows, 0 for the worst and 1 for the best: alike for all
    data sets, whatever their rewards. Ajay et al. 2023 (Decision Diffuser) tell the return itself, scaled to [0, 1].
    """
    said = torch.stack([2.0 * rank - 1.0, torch.ones_like(rank)], dim=1)
    return Condition(vector=torch.where(rank.isnan()[:, None], torch.zeros_like(said), said))


def untold(model: "TrajectoryModel") -> GaussianDenoise:
    """The belief about plans of any return. Silence is a condition too, (0, 0): without one, a network that is told returns has not learned
    what to say."""
    if not model.shape.returns:
        return model.denoiser

    def denoise(x_t: Tensor, t: Tensor) -> GaussianDenoised:
        return model.denoiser(x_t, t, asked(torch.full((len(x_t),), torch.nan, device=x_t.device)))

    return denoise


class TrajectoryModel(nn.Module):
    """Denoiser of trajectories (B, H, features) in normalised units.

    Args:
        network: by default the temporal U-Net of the shape.
    """

    def __init__(self, shape: TrajectoryShape, network: nn.Module | None = None) -> None:
        super().__init__()
        self.shape = shape
        if network is None:
            network = TemporalUNet(shape.features, shape.width, shape.multiples, attention=shape.attention)
        parameterization = x0 if shape.predicts == "x0" else eps
        self.denoiser = GaussianDenoiser(network, trajectory_schedule(shape), parameterization, time_input=_index(shape))
        self.normalization = Normalization(shape.actions + shape.observations)
        if shape.inverse:
            self.inverse = mlp(2 * shape.observations, 256, shape.actions, depth=2)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.normalization.low.device

    def first_action(self, x: Tensor) -> Tensor:
        """The action (B, A), in the data's units, that a normalised plan (B, H, features) begins with."""
        own = slice(0, self.shape.actions)
        normalized = self.inverse(x[:, :2].flatten(1)) if self.shape.inverse else x[:, 0, own]
        return self.normalization.denormalized(normalized, own)


class ValueModel(nn.Module):
    """(x_t (B, H, D) normalised, t (B,)) -> (B,): the discounted return that follows a window, regressed on its noisy version.

        value = offset + scale * network(x_t, T t - 1)

    It is a `LogPotential` for `tilted`, `Ancestral` and `Ascend`, on the very schedule of the denoiser it guides.

    Args:
        network: by default the published `ValueNetwork` of the shape.
    """

    offset: Tensor
    scale: Tensor

    def __init__(self, shape: TrajectoryShape, network: nn.Module | None = None) -> None:
        super().__init__()
        self.shape = shape
        self.schedule = trajectory_schedule(shape)
        self.network = ValueNetwork(shape.features, shape.width, shape.multiples) if network is None else network
        self.time_input = _index(shape)
        self.normalization = Normalization(shape.actions + shape.observations)
        self.register_buffer("offset", torch.zeros(()))
        self.register_buffer("scale", torch.ones(()))

    def forward(self, x_t: Tensor, t: Tensor) -> Tensor:
        return self.offset + self.scale * self.network(x_t, self.time_input(t).to(x_t.device, x_t.dtype))


def trajectory_schedule(shape: TrajectoryShape) -> Tabulated:
    """The cosine schedule in `diffusion_steps` steps."""
    return tabulated(cosine_betas(shape.diffusion_steps))


def _index(shape: TrajectoryShape):
    def index(t: Tensor) -> Tensor:
        return shape.diffusion_steps * t - 1.0

    return index
