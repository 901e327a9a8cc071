"""Exponential moving averages of weights."""

import torch
from torch import nn

from unveil.checks import Bounds, whole, within


class EMA:
    """average <- decay * average + (1 - decay) * weights, after every step.

    decay(k) = min(decay, 1 - (1 + k)^-power): with power 0 the decay is constant; with power 2/3 or 3/4 (Diffusion Policy) it rises
    with the step, so that early weights are forgotten. Buffers of whole numbers are copied.

    Args:
        decay: the largest decay.
        power: how fast it is reached; 0 for a constant decay.
    Raises:
        ValueError: an impossible decay, or a model with BatchNorm: its running statistics are those of the weights themselves, so the
            averaged ones would not do what they did in training (Chi et al. 2023, section IV-B).
    """

    def __init__(self, model: nn.Module, decay: float = 0.999, power: float = 0.75) -> None:
        within("EMA: decay", decay, Bounds(0, 1, below=True))
        within("EMA: power", power, Bounds(0, below=True))
        for name, module in model.named_modules():
            if "BatchNorm" in type(module).__name__ and module.track_running_stats:
                raise ValueError(
                    f"EMA: {name or 'the model'} is a BatchNorm, whose statistics averaged weights would ruin; use GroupNorm"
                )
        self.decay, self.power = decay, power
        self.weights = {name: value.detach().clone() for name, value in model.state_dict().items()}

    @torch.no_grad()
    def update(self, model: nn.Module, step: int) -> None:
        """Take in the weights after step number `step` (from 1).

        Raises:
            ValueError: another step.
        """
        whole("EMA: step", step)
        decay = min(self.decay, 1.0 - (1.0 + step) ** -self.power) if self.power else self.decay
        for name, value in model.state_dict().items():
            if value.is_floating_point():
                self.weights[name].lerp_(value, 1.0 - decay)
            else:
                self.weights[name].copy_(value)
