"""What Diffuser learns: a denoiser of trajectories of actions and observations, and a value of noisy ones. Janner et al. 2022."""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from unveil.network.condition import Condition
from unveil.network.layers import mlp
from unveil.network.normalization import Normalization
from unveil.planning.networks.temporal_unet import TemporalUNet, ValueNetwork
from unveil.planning.networks.temporal_unet_inference import FastUNet, FastValue, Quicker
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
        self.denoiser = GaussianDenoiser(
            network, trajectory_schedule(shape), parameterization, time_input=_index(shape)
        )
        self.normalization = Normalization(shape.actions + shape.observations)
        if shape.inverse:
            self.inverse = mlp(2 * shape.observations, 256, shape.actions, depth=2)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.normalization.low.device

    def in_units(self, x: Tensor) -> Tensor:
        """Normalised plans (B, H, features) in the data's units."""
        return self.normalization.denormalized(x, self.shape.planned)

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
        self.network = (
            ValueNetwork(shape.features, shape.width, shape.multiples) if network is None else network
        )
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


def fast_trajectories(
    model: TrajectoryModel, dtype: torch.dtype = torch.float32, quicker: Quicker | None = None
) -> TrajectoryModel:
    """The model with its temporal U-Net as a `FastUNet`; any other network stays as it is. The model given is not changed."""
    network = model.denoiser.network
    if isinstance(network, TemporalUNet):
        network = FastUNet(network, dtype, quicker)
    made = TrajectoryModel(model.shape, network)
    made.normalization = model.normalization
    if model.shape.inverse:
        made.inverse = model.inverse
    return made.eval()


def fast_value(
    model: ValueModel, dtype: torch.dtype = torch.float32, quicker: Quicker | None = None
) -> ValueModel:
    """The value with its network as a `FastValue`; any other network stays as it is. The value given is not changed."""
    network = model.network
    if isinstance(network, ValueNetwork):
        network = FastValue(network, dtype, quicker)
    made = ValueModel(model.shape, network)
    made.offset, made.scale = model.offset, model.scale
    made.normalization = model.normalization
    return made.eval()
