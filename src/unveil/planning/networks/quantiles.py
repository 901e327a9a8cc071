"""Conditional quantiles of a positive quantity, by regression."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from unveil.network.layers import fourier, mlp


class QuantileMLP(nn.Module):
    """x (..., D) -> quantiles (..., Q) of log y given x, ascending by construction.

    Args:
        inputs: D, size of x, whose numbers are of order 1.
        levels: the Q probabilities, ascending in (0, 1).
        width, depth, octaves: sizes of the MLP, and Fourier octaves of its input.
    """

    def __init__(
        self, inputs: int, levels: tuple[float, ...], width: int = 256, depth: int = 3, octaves: int = 6
    ) -> None:
        super().__init__()
        self.levels, self.octaves = levels, octaves
        self.body = mlp(inputs * (2 * octaves + 1), width, len(levels), depth)

    def forward(self, x: Tensor) -> Tensor:
        raw = self.body(torch.cat([x, fourier(x, self.octaves)], dim=-1))
        return torch.cat([raw[..., :1], F.softplus(raw[..., 1:])], dim=-1).cumsum(-1)


def pinball(prediction: Tensor, target: Tensor, levels: tuple[float, ...]) -> Tensor:
    """The mean over levels q of max(q (y - p), (q - 1) (y - p)), whose minimiser p is the q-quantile. Koenker
    & Bassett 1978.

    Args:
        prediction: (B, Q).
        target: (B,).
        levels: the Q probabilities.
    Returns:
        (B,).
    """
    level = torch.tensor(levels, device=prediction.device, dtype=prediction.dtype)
    error = target[:, None] - prediction  # (B, Q)
    return torch.maximum(level * error, (level - 1.0) * error).mean(1)
