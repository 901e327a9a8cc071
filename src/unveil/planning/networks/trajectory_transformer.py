"""Transformers over trajectories, of a denoiser and of a value; a trajectory has rows of actions and
observations, the first one known."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from unveil.network.condition import Condition
from unveil.network.layers import ModulatedBlock, mlp, sinusoids


class SequenceTrunk(nn.Module):
    """(x (B, H, D), time (B,), vector (B, V)) -> tokens (B, ceil(H / patch), W), for every H.

    `time` is the index of the diffusion step, 0 .. T - 1 (-1: clean). A token is a patch of `patch` rows. The
    first row, the time and the condition's vector modulate norms and gates of every block.

    Args:
        condition: V, size of the condition's vector; 0: no condition.
    """

    def __init__(
        self, features: int, width: int, depth: int, heads: int, patch: int, condition: int = 0
    ) -> None:
        super().__init__()
        self.patch, self.width = patch, width
        self.told = nn.Linear(condition, width) if condition else None
        self.time = mlp(width, width, width)
        self.about = mlp(features, width, width)
        self.enter = nn.Linear(patch * features, width)
        self.place = nn.Linear(width, width)
        self.blocks = nn.ModuleList(ModulatedBlock(width, heads) for _ in range(depth))
        self.final = nn.Linear(width, 2 * width)
        nn.init.zeros_(self.final.weight)
        nn.init.zeros_(self.final.bias)

    def forward(self, x: Tensor, time: Tensor, vector: Tensor | None = None) -> Tensor:
        batch, horizon, features = x.shape
        tokens = F.pad(x, (0, 0, 0, -horizon % self.patch)).reshape(batch, -1, self.patch * features)
        embedding = self.time(sinusoids(time, self.width)) + self.about(x[:, 0])  # (B, W)
        if vector is not None and self.told is not None:
            embedding = embedding + self.told(vector)
        condition = F.silu(embedding)
        index = sinusoids(torch.arange(tokens.shape[1], device=x.device, dtype=x.dtype), self.width, 1000.0)
        h = self.enter(tokens) + self.place(index)  # (B, N, W)
        for block in self.blocks:
            h = block(h, condition, None)
        shift, scale = self.final(condition)[:, None].chunk(2, dim=-1)
        return F.layer_norm(h, h.shape[-1:]) * (1.0 + scale) + shift


class SequenceTransformer(nn.Module):
    """(x (B, H, D), time (B,), condition) -> (B, H, D), for every H; 0 before training. It uses `vector` (B,
    V) of the condition, if any.

    Args:
        features: D, size of a row.
        width, depth, heads: sizes of the transformer.
        patch: rows per token.
        condition: V, size of the condition's vector; 0: no condition.
    """

    def __init__(
        self,
        features: int,
        width: int = 128,
        depth: int = 4,
        heads: int = 4,
        patch: int = 4,
        condition: int = 0,
    ) -> None:
        super().__init__()
        self.trunk = SequenceTrunk(features, width, depth, heads, patch, condition)
        self.leave = nn.Linear(width, patch * features)
        nn.init.zeros_(self.leave.weight)
        nn.init.zeros_(self.leave.bias)

    def forward(self, x: Tensor, time: Tensor, cond: Condition | None = None) -> Tensor:
        vector = None if cond is None else cond.vector
        return self.leave(self.trunk(x, time, vector)).reshape(x.shape[0], -1, x.shape[2])[:, : x.shape[1]]


class SequenceValue(nn.Module):
    """(x (B, H, D), time (B,)) -> (B,), for every H: a linear map of the mean token; 0 before training."""

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
