"""Diffuser's models: a denoiser of trajectories of actions and observations, and a value of noisy
trajectories. Janner et al. 2022."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from unveil.network.condition import Condition
from unveil.network.layers import mlp
from unveil.network.normalization import Normalization
from unveil.planning.networks.quantiles import QuantileMLP
from unveil.planning.networks.temporal_unet import TemporalUNet, ValueNetwork
from unveil.planning.networks.temporal_unet_inference import FastUNet, FastValue, Quicker
from unveil.process.denoised import GaussianDenoise, GaussianDenoised
from unveil.process.denoiser import GaussianDenoiser
from unveil.process.parameterization import eps, x0
from unveil.process.schedule import Tabulated, cosine_betas, tabulated

TRAVEL_LEVELS = (0.1, 0.25, 0.5)  # quantiles of the number of steps from an observation to a goal


@dataclass(frozen=True)
class TrajectoryShape:
    """The sizes of a `TrajectoryModel` or a `ValueModel`, which determine its tensors.

    Args:
        horizon: H, environment steps of the longest training window; other horizons work with the same
            weights.
        diffusion_steps: T, number of steps of the cosine schedule.
        actions, observations: A and D, sizes of an action and an observation; a row of a trajectory is
            (action, observation).
        width, multiples, attention: sizes of the temporal U-Net.
        predicts: whether the network predicts the clean trajectory or the noise.
        inverse: plan observations only; a second network learns the action between two observations (inverse
            dynamics).
        returns: the denoiser is conditional on the return that follows; see `return_condition`.
        goal: the numbers of an observation, from 0, that are known of the last row of a plan too: the goal. A
            second network learns how many steps lie between an observation and a goal.
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
    goal: tuple[int, ...] = ()

    @property
    def planned(self) -> slice:
        """The part of a row (action, observation) that is planned."""
        return slice(self.actions if self.inverse else 0, None)

    @property
    def features(self) -> int:
        """Size of a planned row."""
        return self.observations + (0 if self.inverse else self.actions)

    def first_known(self, horizon: int) -> Tensor:
        """(1, H, features) bool: the known numbers of a plan, the observation of its first row, and the goal
        in its last row."""
        known = torch.zeros((1, horizon, self.features), dtype=torch.bool, device="cpu")
        known[:, 0, -self.observations :] = True
        known[:, -1, [self.features - self.observations + i for i in self.goal]] = True
        return known

    @property
    def stride(self) -> int:
        """Environment steps between two rows of a plan."""
        return 1


def return_condition(rank: Tensor) -> Condition:
    """The return condition of a denoiser: vector (B, 2) = (2 rank - 1, 1), or (0, 0), unconditional, where
    the rank is NaN.

    Ranks do not depend on the scale of a data set's rewards. Ajay et al. 2023 (Decision Diffuser) condition
    on the return itself, scaled to [0, 1].

    Args:
        rank: (B,), the fraction of the data's returns that are lower, 0 (worst) to 1 (best); NaN for no
            condition.
    """
    vector = torch.stack([2.0 * rank - 1.0, torch.ones_like(rank)], dim=1)  # (B, 2)
    return Condition(vector=torch.where(rank.isnan()[:, None], torch.zeros_like(vector), vector))


def unconditional(model: "TrajectoryModel") -> GaussianDenoise:
    """The unconditional denoiser. For a network conditional on returns this is the condition (0, 0), which it
    was trained with; without any condition its output is undefined."""
    if not model.shape.returns:
        return model.denoiser

    def denoise(x_t: Tensor, t: Tensor) -> GaussianDenoised:
        return model.denoiser(x_t, t, return_condition(torch.full((len(x_t),), torch.nan, device=x_t.device)))

    return denoise


class TrajectoryModel(nn.Module):
    """Denoiser of trajectories (B, H, features) in normalised units.

    Args:
        shape: sizes of the model.
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
        if shape.goal:
            self.travel = QuantileMLP(shape.observations + len(shape.goal), TRAVEL_LEVELS)

    @property
    def device(self) -> torch.device:
        """The device of the weights."""
        return self.normalization.low.device

    def in_units(self, x: Tensor) -> Tensor:
        """Normalised plans (B, H, features) in the data's units."""
        return self.normalization.denormalized(x, self.shape.planned)

    def first_action(self, x: Tensor) -> Tensor:
        """The first action (B, A), in the data's units, of normalised plans (B, H, features)."""
        own = slice(0, self.shape.actions)
        normalized = self.inverse(x[:, :2].flatten(1)) if self.shape.inverse else x[:, 0, own]
        return self.normalization.denormalized(normalized, own)


class ValueModel(nn.Module):
    """(x_t (B, H, F) normalised, t (B,)) -> (B,): the discounted return that follows a window, predicted from
    the noisy window.

        value = offset + scale * network(x_t, T t - 1)

    It is a `LogPotential` for `tilted`, `Ancestral` and `Ascend`, on the schedule of the denoiser that it
    guides.

    Args:
        shape: sizes of the model.
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


def _index(shape: TrajectoryShape) -> Callable[[Tensor], Tensor]:
    """The network's time input: the index of the diffusion step, T t - 1."""

    def index(t: Tensor) -> Tensor:
        return shape.diffusion_steps * t - 1.0

    return index


def fast_trajectories(
    model: TrajectoryModel, dtype: torch.dtype = torch.float32, quicker: Quicker | None = None
) -> TrajectoryModel:
    """The model with its temporal U-Net as a `FastUNet`. Other networks are not replaced; the original model
    is not changed."""
    network = model.denoiser.network
    if isinstance(network, TemporalUNet):
        network = FastUNet(network, dtype, quicker)
    made = TrajectoryModel(model.shape, network)
    made.normalization = model.normalization
    if model.shape.inverse:
        made.inverse = model.inverse
    if model.shape.goal:
        made.travel = model.travel
    return made.eval()


def fast_value(
    model: ValueModel, dtype: torch.dtype = torch.float32, quicker: Quicker | None = None
) -> ValueModel:
    """The value with its network as a `FastValue`. Other networks are not replaced; the original value is not
    changed."""
    network = model.network
    if isinstance(network, ValueNetwork):
        network = FastValue(network, dtype, quicker)
    made = ValueModel(model.shape, network)
    made.offset, made.scale = model.offset, model.scale
    made.normalization = model.normalization
    return made.eval()
