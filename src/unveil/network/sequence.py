"""A transformer over sequences of rows that begin at a known one, several rows a token."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from unveil.network.condition import Condition
from unveil.network.layers import ModulatedBlock, mlp, sinusoids


class SequenceTransformer(nn.Module):
    """(x (B, H, D), time (B,), condition unread) -> (B, H, D), for every H.

    A token is a patch of `patch` rows, its place counted from the first. The first row, where a plan begins, and the time step set every
    block's norms and gates. All work is matrix products, which is what processors are fastest at.

    Args:
        features: D.
    """

    def __init__(self, features: int, width: int = 128, depth: int = 4, heads: int = 4, patch: int = 4) -> None:
        super().__init__()
        self.features, self.patch, self.width = features, patch, width
        self.time = mlp(width, width, width)
        self.about = mlp(features, width, width)
        self.enter = nn.Linear(patch * features, width)
        self.place = nn.Linear(width, width)
        self.blocks = nn.ModuleList(ModulatedBlock(width, heads) for _ in range(depth))
        self.final = nn.Linear(width, 2 * width)
        self.leave = nn.Linear(width, patch * features)
        for layer in (self.final, self.leave):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, x: Tensor, time: Tensor, cond: Condition | None = None) -> Tensor:
        batch, horizon, features = x.shape
        tokens = F.pad(x, (0, 0, 0, -horizon % self.patch)).reshape(batch, -1, self.patch * features)
        condition = F.silu(self.time(sinusoids(time, self.width)) + self.about(x[:, 0]))
        place = sinusoids(torch.arange(tokens.shape[1], device=x.device, dtype=x.dtype), self.width, 1000.0)
        h = self.enter(tokens) + self.place(place)
        for block in self.blocks:
            h = block(h, condition, None)
        shift, scale = self.final(condition)[:, None].chunk(2, dim=-1)
        out = self.leave(F.layer_norm(h, h.shape[-1:]) * (1.0 + scale) + shift)
        return out.reshape(batch, -1, features)[:, :horizon]
