"""Exponential moving average (EMA) of weights."""

import torch
from torch import nn

from unveil.checks import Bounds, whole, within


class EMA:
    """average <- decay * average + (1 - decay) * weights, after every step.

    At step k the decay is min(decay, 1 - (1 + k)^-power). With power 0 it is constant; with power 2/3 or 3/4
    (Diffusion Policy) it increases, so that the initial weights lose influence. Integer buffers are copied.

    Args:
        decay: largest decay, in [0, 1).
        power: the larger the power, the sooner the largest decay is reached; 0 for a constant decay.
    Raises:
        ValueError: decay or power is out of range, or the model has a BatchNorm: its running statistics
            belong to the weights themselves, not to their average (Chi et al. 2023, section IV-B).
    """

    def __init__(self, model: nn.Module, decay: float = 0.999, power: float = 0.75) -> None:
        within("EMA: decay", decay, Bounds(0, 1, below=True))
        within("EMA: power", power, Bounds(0, below=True))
        for name, module in model.named_modules():
            if "BatchNorm" in type(module).__name__ and module.track_running_stats:
                raise ValueError(
                    f"EMA: {name or 'the model'} is a BatchNorm, whose statistics do not fit averaged "
                    "weights; use GroupNorm"
                )
        self.decay, self.power = decay, power
        self.weights = {name: value.detach().clone() for name, value in model.state_dict().items()}

    @torch.no_grad()
    def update(self, model: nn.Module, step: int) -> None:
        """Update the average with the weights after step `step`, counted from 1.

        Raises:
            ValueError: step is not a whole number of at least 1.
        """
        whole("EMA: step", step)
        decay = min(self.decay, 1.0 - (1.0 + step) ** -self.power) if self.power else self.decay
        for name, value in model.state_dict().items():
            if value.is_floating_point():
                self.weights[name].lerp_(value, 1.0 - decay)
            else:
                self.weights[name].copy_(value)
