"""Conditional quantiles of a positive quantity, by regression."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from unveil.network.layers import fourier, mlp


class QuantileMLP(nn.Module):
    """(..., D) to the quantiles (..., Q) of log y given x, ascending by construction.

    Args:
        inputs: D, numbers of order 1.
        levels: the Q probabilities, ascending in (0, 1).
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
    """Mean over levels of max(q (y - p), (q - 1) (y - p)): its minimiser is the q-quantile. Koenker & Bassett 1978. (B, Q), (B,) -> (B,)"""
    level = torch.tensor(levels, device=prediction.device, dtype=prediction.dtype)
    miss = target[:, None] - prediction
    return torch.maximum(level * miss, (level - 1.0) * miss).mean(1)
