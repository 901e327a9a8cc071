"""Diffuser's temporal U-Net and value network: one-dimensional convolutions over the steps of a trajectory.

Janner et al. 2022, appendix C; with the number of parameters of the released code.
"""

from itertools import pairwise

import torch
from torch import Tensor, nn

from unveil.network.condition import Condition
from unveil.network.conv1d import ConvBlock1d, LinearAttention1d, ResidualConv1d, halving
from unveil.network.layers import sinusoids


class TemporalUNet(nn.Module):
    """(x (B, H, D), time (B,), condition, which is not used) -> (B, H, D), for every H that `2 **
    (len(multiples) - 1)` divides.

    `time` is the index of the diffusion step, 0 .. T - 1. Level k has `width * multiples[k]` channels; H is
    halved between levels. As in the released code there is no skip connection at full resolution.

    Args:
        features: D, size of a row.
        width: channels of the first level, before its multiple.
        multiples: channels of each level, as multiples of `width`.
        kernel: kernel size of the convolutions.
        attention: whether a `LinearAttention1d` follows the blocks of each level and the first block in the
            middle.
    Raises:
        ValueError: H cannot be halved as often as there are levels.
    """

    def __init__(
        self,
        features: int,
        width: int = 32,
        multiples: tuple[int, ...] = (1, 2, 4, 8),
        kernel: int = 5,
        attention: bool = False,
    ) -> None:
        super().__init__()
        self.width, self.levels = width, len(multiples)
        sizes = [features, *(width * m for m in multiples)]
        self.time = nn.Sequential(nn.Linear(width, 4 * width), nn.Mish(), nn.Linear(4 * width, width))
        self.down = nn.ModuleList(
            nn.ModuleList([ResidualConv1d(a, b, width, kernel), ResidualConv1d(b, b, width, kernel)])
            for a, b in pairwise(sizes)
        )
        self.halvings = nn.ModuleList(halving(b) for b in sizes[1:-1])
        self.middle = nn.ModuleList(ResidualConv1d(sizes[-1], sizes[-1], width, kernel) for _ in range(2))
        inner = list(pairwise(sizes[1:]))[::-1]
        self.up = nn.ModuleList(
            nn.ModuleList([ResidualConv1d(2 * b, a, width, kernel), ResidualConv1d(a, a, width, kernel)])
            for a, b in inner
        )
        self.doublings = nn.ModuleList(nn.ConvTranspose1d(a, a, 4, stride=2, padding=1) for a, _ in inner)
        outputs = [
            *sizes[1:],
            sizes[-1],
            *(a for a, _ in inner),
        ]  # channels after each level down, in the middle, and after each level up
        self.attention = nn.ModuleList(LinearAttention1d(c) if attention else nn.Identity() for c in outputs)
        self.final = nn.Sequential(ConvBlock1d(width, width, kernel), nn.Conv1d(width, features, 1))

    def forward(self, x: Tensor, time: Tensor, cond: Condition | None = None) -> Tensor:
        if x.shape[1] % 2 ** (self.levels - 1):
            raise ValueError(
                f"TemporalUNet: a horizon of {x.shape[1]} cannot be halved {self.levels - 1} times"
            )
        embedding = self.time(sinusoids(time, self.width, inclusive=True))  # (B, W)
        h, skips = x.transpose(1, 2), []  # (B, D, H)
        for k, blocks in enumerate(self.down):
            for block in blocks:  # pyright: ignore[reportGeneralTypeIssues]
                h = block(h, embedding)
            h = self.attention[k](h)
            skips.append(h)
            if k < len(self.halvings):
                h = self.halvings[k](h)
        h = self.middle[1](self.attention[self.levels](self.middle[0](h, embedding)), embedding)
        for k, (blocks, double) in enumerate(zip(self.up, self.doublings, strict=True)):
            h = torch.cat([h, skips.pop()], dim=1)
            for block in blocks:  # pyright: ignore[reportGeneralTypeIssues]
                h = block(h, embedding)
            h = double(self.attention[self.levels + 1 + k](h))
        return self.final(h).transpose(1, 2)


class ValueNetwork(nn.Module):
    """(x (B, H, D), time (B,)) -> (B,), for every H.

    Convolutional levels have `width * multiples[k]` channels; two more have half and a quarter of the
    channels of the last one; H is halved after each. The mean over the remaining positions and the time
    embedding go through one hidden layer. If one position remains (H up to 2 ** (levels + 2)), this is the
    `ValueFunction` of the released code, weight for weight; that one flattens the positions, so it cannot
    take longer horizons. Janner et al. 2022, appendix C.
    """

    def __init__(
        self, features: int, width: int = 32, multiples: tuple[int, ...] = (1, 2, 4, 8), kernel: int = 5
    ) -> None:
        super().__init__()
        self.width = width
        last = width * multiples[-1]
        sizes = [features, *(width * m for m in multiples)]
        self.time = nn.Sequential(nn.Linear(width, 4 * width), nn.Mish(), nn.Linear(4 * width, width))
        self.levels = nn.ModuleList(
            nn.ModuleList([ResidualConv1d(a, b, width, kernel), ResidualConv1d(b, b, width, kernel)])
            for a, b in pairwise(sizes)
        )
        self.levels.extend(
            nn.ModuleList([ResidualConv1d(a, a // 2, width, kernel)]) for a in (last, last // 2)
        )
        self.halvings = nn.ModuleList(halving(c) for c in (*sizes[1:], last // 2, last // 4))
        self.head = nn.Sequential(nn.Linear(last // 4 + width, last // 8), nn.Mish(), nn.Linear(last // 8, 1))

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        embedding = self.time(sinusoids(time, self.width, inclusive=True))  # (B, W)
        h = x.transpose(1, 2)  # (B, D, H)
        for blocks, halve in zip(self.levels, self.halvings, strict=True):
            for block in blocks:  # pyright: ignore[reportGeneralTypeIssues]
                h = block(h, embedding)
            h = halve(h)
        return self.head(torch.cat([h.mean(2), embedding], dim=1))[:, 0]
