"""A value of a noisy trajectory: the lower half of Diffuser's temporal U-Net, and a head that takes any horizon."""

from itertools import pairwise

import torch
from torch import Tensor, nn

from unveil.network.conv1d import ResidualConv1d, halving
from unveil.network.layers import sinusoids


class ValueNetwork(nn.Module):
    """(x (B, H, D), time (B,)) -> (B,), for every H.

    Convolutional levels with `width * multiples[k]` channels, H halved after each, two more with half and a quarter of the last one's
    channels, the mean over what places are left, and a hidden layer that sees the time too. Where one place is left (H up to
    2 ** (levels + 2)) this is the released code's `ValueFunction`, weight for weight; that one flattens, and cannot take longer horizons.
    Janner et al. 2022, appendix C.
    """

    def __init__(self, features: int, width: int = 32, multiples: tuple[int, ...] = (1, 2, 4, 8), kernel: int = 5) -> None:
        super().__init__()
        self.width = width
        last = width * multiples[-1]
        sizes = [features, *(width * m for m in multiples)]
        self.time = nn.Sequential(nn.Linear(width, 4 * width), nn.Mish(), nn.Linear(4 * width, width))
        self.levels = nn.ModuleList(
            nn.ModuleList([ResidualConv1d(a, b, width, kernel), ResidualConv1d(b, b, width, kernel)]) for a, b in pairwise(sizes)
        )
        self.levels.extend(nn.ModuleList([ResidualConv1d(a, a // 2, width, kernel)]) for a in (last, last // 2))
        self.halvings = nn.ModuleList(halving(c) for c in (*sizes[1:], last // 2, last // 4))
        self.head = nn.Sequential(nn.Linear(last // 4 + width, last // 8), nn.Mish(), nn.Linear(last // 8, 1))

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        about = self.time(sinusoids(time, self.width, inclusive=True))
        h = x.transpose(1, 2)
        for blocks, halve in zip(self.levels, self.halvings, strict=True):
            for block in blocks:  # pyright: ignore[reportGeneralTypeIssues]
                h = block(h, about)
            h = halve(h)
        return self.head(torch.cat([h.mean(2), about], dim=1))[:, 0]
