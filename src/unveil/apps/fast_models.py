"""Models whose published networks are laid out for planning: the same weights and results in less time."""

import torch

from unveil.apps.policy_model import PolicyModel
from unveil.apps.trajectory_model import TrajectoryModel, ValueModel
from unveil.network.conditional_unet1d import ConditionalUNet
from unveil.network.fast_conditional_unet1d import FastConditionalUNet
from unveil.network.fast_unet1d import FastUNet, FastValue, Quicker
from unveil.network.unet1d import TemporalUNet
from unveil.network.value1d import ValueNetwork


def fast_trajectories(model: TrajectoryModel, dtype: torch.dtype = torch.float32, quicker: Quicker | None = None) -> TrajectoryModel:
    """The model with its temporal U-Net as a `FastUNet`; any other network stays as it is. The model given is not changed."""
    network = model.denoiser.network
    if isinstance(network, TemporalUNet):
        network = FastUNet(network, dtype, quicker)
    made = TrajectoryModel(model.shape, network)
    made.normalization = model.normalization
    if model.shape.inverse:
        made.inverse = model.inverse
    return made.eval()


def fast_value(model: ValueModel, dtype: torch.dtype = torch.float32, quicker: Quicker | None = None) -> ValueModel:
    """The value with its network as a `FastValue`; any other network stays as it is. The value given is not changed."""
    network = model.network
    if isinstance(network, ValueNetwork):
        network = FastValue(network, dtype, quicker)
    made = ValueModel(model.shape, network)
    made.offset, made.scale = model.offset, model.scale
    made.normalization = model.normalization
    return made.eval()


def fast_policy(model: PolicyModel) -> PolicyModel:
    """The policy's model with its U-Net as a `FastConditionalUNet`; any other network stays as it is. The model given is not changed."""
    network = model.denoiser.network
    made = PolicyModel(model.shape, FastConditionalUNet(network) if isinstance(network, ConditionalUNet) else network, model.encoder)
    made.observed, made.acted, made.pictured = model.observed, model.acted, model.pictured
    return made.eval()
