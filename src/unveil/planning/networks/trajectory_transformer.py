"""Transformers over trajectories, rows of actions and observations whose first is known, several a token: a denoiser's and a value's."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from unveil.network.condition import Condition
from unveil.network.layers import ModulatedBlock, mlp, sinusoids


class SequenceTrunk(nn.Module):
    """(x (B, H, D), time (B,), told (B, V)) -> tokens (B, ceil(H / patch), W), for every H.

    `time` is the index of the step, 0 .. T - 1 (-1: clean).
    A token is a patch of `patch` rows, its place counted from the first. The first row, where a plan begins, the time step and what else it
    is told set every block's norms and gates. All work is matrix products, which is what processors are fastest at.
    """

    def __init__(self, features: int, width: int, depth: int, heads: int, patch: int, told: int = 0) -> None:
        super().__init__()
        self.patch, self.width = patch, width
        self.told = nn.Linear(told, width) if told else None
        self.time = mlp(width, width, width)
        self.about = mlp(features, width, width)
        self.enter = nn.Linear(patch * features, width)
        self.place = nn.Linear(width, width)
        self.blocks = nn.ModuleList(ModulatedBlock(width, heads) for _ in range(depth))
        self.final = nn.Linear(width, 2 * width)
        nn.init.zeros_(self.final.weight)
        nn.init.zeros_(self.final.bias)

    def forward(self, x: Tensor, time: Tensor, told: Tensor | None = None) -> Tensor:
        batch, horizon, features = x.shape
        tokens = F.pad(x, (0, 0, 0, -horizon % self.patch)).reshape(batch, -1, self.patch * features)
        about = self.time(sinusoids(time, self.width)) + self.about(x[:, 0])
        condition = F.silu(about if told is None or self.told is None else about + self.told(told))
        place = sinusoids(torch.arange(tokens.shape[1], device=x.device, dtype=x.dtype), self.width, 1000.0)
        h = self.enter(tokens) + self.place(place)
        for block in self.blocks:
            h = block(h, condition, None)
        shift, scale = self.final(condition)[:, None].chunk(2, dim=-1)
        return F.layer_norm(h, h.shape[-1:]) * (1.0 + scale) + shift


class SequenceTransformer(nn.Module):
    """(x (B, H, D), time (B,), condition) -> (B, H, D), for every H; 0 at first. Of the condition it reads `vector` (B, V), if any.

    Args:
        features: D.
        width, depth, heads: of the trunk.
        patch: rows a token.
        told: V, numbers of the condition's vector; 0: none.
    """

    def __init__(
        self, features: int, width: int = 128, depth: int = 4, heads: int = 4, patch: int = 4, told: int = 0
    ) -> None:
        super().__init__()
        self.trunk = SequenceTrunk(features, width, depth, heads, patch, told)
        self.leave = nn.Linear(width, patch * features)
        nn.init.zeros_(self.leave.weight)
        nn.init.zeros_(self.leave.bias)

    def forward(self, x: Tensor, time: Tensor, cond: Condition | None = None) -> Tensor:
        told = None if cond is None else cond.vector
        return self.leave(self.trunk(x, time, told)).reshape(len(x), -1, x.shape[2])[:, : x.shape[1]]


class SequenceValue(nn.Module):
    """(x (B, H, D), time (B,)) -> (B,), for every H: a linear map of the mean token; 0 at first."""

    def __init__(
        self, features: int, width: int = 128, depth: int = 2, heads: int = 4, patch: int = 4
    ) -> None:
        super().__init__()
        self.trunk = SequenceTrunk(features, width, depth, heads, patch)
        self.leave = nn.Linear(width, 1)
        nn.init.zeros_(self.leave.weight)
        nn.init.zeros_(self.leave.bias)

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        return self.leave(self.trunk(x, time).mean(1))[:, 0]
