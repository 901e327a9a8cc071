"""Diffusion Policy's one-dimensional U-Net: convolutions over a chunk of actions, conditioned by FiLM.

Chi et al. 2023, section III-A; it has the parameters of the released code (real-stanford/diffusion_policy,
and LeRobot's port).
"""

from itertools import pairwise

import torch
from torch import Tensor, nn

from unveil.network.condition import Condition
from unveil.network.conv1d import ConvBlock1d, FilmConv1d, halving
from unveil.network.layers import sinusoids


class ConditionalUNet(nn.Module):
    """(x (B, H, A), time (B,), condition with vector (B, V)) -> (B, H, A).

    H must be a multiple of `2 ** (len(widths) - 1)`. `time` is the index of the step, 0 .. T - 1. Level k
    has `widths[k]` channels; between levels H is halved. All blocks are conditioned on the embedded time,
    concatenated with the vector: normalised observations, or features of an image encoder. As in the
    released code the features at full resolution have no skip connection: every path passes the second
    level.

    The published widths are (256, 512, 1024) for states and (512, 1024, 2048) for images.

    Args:
        features: A.
        vector: V; with 0 the condition is not used.
        kernel: kernel size of the convolutions, an odd number.
        step: width of the time embedding; 256 (states) or 128 (images) as published.
        groups: groups of the GroupNorms, except for the last one, which has 8.
        scale: FiLM has a gain in addition to its shift.
    Raises:
        ValueError: H cannot be halved as often as there are levels, or the condition lacks the vector or has
            another size.
    """

    def __init__(
        self,
        features: int,
        vector: int,
        widths: tuple[int, ...] = (256, 512, 1024),
        kernel: int = 5,
        step: int = 256,
        groups: int = 8,
        scale: bool = True,
    ) -> None:
        super().__init__()
        self.vector, self.step, self.levels = vector, step, len(widths)

        def pair(inputs: int, outputs: int) -> nn.ModuleList:
            return nn.ModuleList(
                FilmConv1d(i, outputs, step + vector, kernel, groups, scale) for i in (inputs, outputs)
            )

        self.time = nn.Sequential(nn.Linear(step, 4 * step), nn.Mish(), nn.Linear(4 * step, step))
        self.down = nn.ModuleList(pair(a, b) for a, b in pairwise((features, *widths)))
        self.halvings = nn.ModuleList(halving(width) for width in widths[:-1])
        self.middle = pair(widths[-1], widths[-1])
        inner = list(pairwise(widths))[::-1]
        self.up = nn.ModuleList(pair(2 * b, a) for a, b in inner)
        self.doublings = nn.ModuleList(nn.ConvTranspose1d(a, a, 4, stride=2, padding=1) for a, _ in inner)
        self.final = nn.Sequential(
            ConvBlock1d(widths[0], widths[0], kernel), nn.Conv1d(widths[0], features, 1)
        )

    def forward(self, x: Tensor, time: Tensor, cond: Condition | None = None) -> Tensor:
        if x.shape[1] % 2 ** (self.levels - 1):
            raise ValueError(
                f"ConditionalUNet: a horizon of {x.shape[1]} cannot be halved {self.levels - 1} times"
            )
        embedding = self._embedding(x.shape[0], self.time(sinusoids(time, self.step, inclusive=True)), cond)
        h, kept = x.transpose(1, 2), list[Tensor]()  # (B, A, H)
        for k, blocks in enumerate(self.down):
            for block in blocks:  # pyright: ignore[reportGeneralTypeIssues]
                h = block(h, embedding)
            kept.append(h)
            if k < len(self.halvings):
                h = self.halvings[k](h)
        for block in self.middle:
            h = block(h, embedding)
        for blocks, double in zip(self.up, self.doublings, strict=True):
            h = torch.cat([h, kept.pop()], dim=1)
            for block in blocks:  # pyright: ignore[reportGeneralTypeIssues]
                h = block(h, embedding)
            h = double(h)
        return self.final(h).transpose(1, 2)

    def _embedding(self, batch: int, time: Tensor, cond: Condition | None) -> Tensor:
        if not self.vector:
            return time
        if cond is None or cond.vector is None:
            raise ValueError("ConditionalUNet: the condition needs a vector")
        if cond.vector.shape != (batch, self.vector):
            raise ValueError(
                f"ConditionalUNet: the vector must be {(batch, self.vector)}, got {tuple(cond.vector.shape)}"
            )
        return torch.cat([time, cond.vector], dim=-1)
