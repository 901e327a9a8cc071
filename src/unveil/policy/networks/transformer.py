"""Diffusion Policy's transformer: actions attend to earlier ones, and to tokens of time and observations.

Chi et al. 2023, section III-A; it has the parameters of the released code (real-stanford/diffusion_policy,
`TransformerForDiffusion` with `time_as_cond` and no layers over the condition).
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from unveil.network.condition import Condition
from unveil.network.layers import attention, dropped, sinusoids


class PolicyTransformer(nn.Module):
    """(x (B, h, A), time (B,), condition with tokens (B, n, O)) -> (B, h, A), for every h <= H and n <= N.

    `time` is the index of the step, 0 .. T - 1. The memory is the embedded time followed by the observations,
    oldest first, each through the same two-layer network. With `causal` action i attends to actions 0 .. i,
    to the time and to observations 0 .. i, those not later than itself, as published; without, to all.

    Published sizes: depth 8, heads 4, width 256 (PushT and images) or 768 (kitchen), dropout of 0.01 (PushT),
    0.1 or 0.3.

    Args:
        features: A.
        horizon: H.
        observation: O; with 0 the time is the whole memory, and the condition is not used.
        observations: N, the largest number of observations.
        dropout: dropout of attention weights and of each residual branch, in training only, drawn from the
            attribute `generator`.
        dropout_inputs: dropout of actions and memory, after their position embeddings are added.
    Raises:
        ValueError: the condition lacks its tokens, they or x have another size or are too many, or dropout
            has no generator.
    """

    def __init__(
        self,
        features: int,
        horizon: int,
        observation: int,
        observations: int,
        width: int = 256,
        depth: int = 8,
        heads: int = 4,
        dropout: float = 0.0,
        dropout_inputs: float = 0.0,
        causal: bool = True,
    ) -> None:
        super().__init__()
        if width % heads:
            raise ValueError(f"PolicyTransformer: {heads} heads do not divide a width of {width}")
        self.features, self.horizon, self.width, self.causal = features, horizon, width, causal
        self.dropout, self.dropout_inputs = dropout, dropout_inputs
        self.generator: torch.Generator | None = None
        self.observation, self.observations = observation, observations if observation else 0
        self.enter = nn.Linear(features, width)
        self.place = nn.Parameter(torch.zeros(horizon, width))
        self.observe = nn.Linear(observation, width) if observation else None
        self.memory_place = nn.Parameter(torch.zeros(1 + self.observations, width))
        self.memory = nn.Sequential(nn.Linear(width, 4 * width), nn.Mish(), nn.Linear(4 * width, width))
        self.blocks = nn.ModuleList(CrossBlock(width, heads, dropout) for _ in range(depth))
        self.norm = nn.LayerNorm(width)
        self.leave = nn.Linear(width, features)
        for layer in self.modules():
            if isinstance(layer, nn.Linear):
                nn.init.normal_(layer.weight, std=0.02)
                nn.init.zeros_(layer.bias)
        for place in (self.place, self.memory_place):
            nn.init.normal_(place, std=0.02)

    def forward(self, x: Tensor, time: Tensor, cond: Condition | None = None) -> Tensor:
        if x.shape[1] > self.horizon or x.shape[2] != self.features:
            needed = f"(B, up to {self.horizon}, {self.features})"
            raise ValueError(f"PolicyTransformer: x must be {needed}, got {tuple(x.shape)}")
        generator = self._generator()
        memory = sinusoids(time, self.width, inclusive=True)[:, None]
        if self.observe is not None:
            memory = torch.cat([memory, self.observe(self._tokens(x.shape[0], cond))], dim=1)
        memory = memory + self.memory_place[: memory.shape[1]]  # (B, 1 + n, W)
        memory = self.memory(dropped(memory, self.dropout_inputs, generator))
        h = dropped(self.enter(x) + self.place[: x.shape[1]], self.dropout_inputs, generator)  # (B, h, W)
        own, cross = self.masks(x.shape[1], memory.shape[1], x.device) if self.causal else (None, None)
        for block in self.blocks:
            h = block(h, memory, own, cross, generator)
        return self.leave(self.norm(h))

    def masks(self, length: int, memories: int, device: torch.device | str = "cpu") -> tuple[Tensor, Tensor]:
        """Causal bool masks: action i attends to actions j <= i and to memory j <= i + 1; 0 is the time."""
        i = torch.arange(length, device=device)[:, None]
        return torch.arange(length, device=device) <= i, torch.arange(memories, device=device) <= i + 1

    def _tokens(self, batch: int, cond: Condition | None) -> Tensor:
        if cond is None or cond.tokens is None:
            raise ValueError("PolicyTransformer: the condition needs tokens")
        shape = tuple(cond.tokens.shape)
        if len(shape) != 3 or shape != (batch, min(max(1, shape[1]), self.observations), self.observation):
            needed = f"({batch}, 1 to {self.observations}, {self.observation})"
            raise ValueError(f"PolicyTransformer: the tokens must be {needed}, got {shape}")
        return cond.tokens

    def _generator(self) -> torch.Generator | None:
        if not self.training or not (self.dropout or self.dropout_inputs):
            return None
        if self.generator is None:
            raise ValueError("PolicyTransformer: training with dropout needs the attribute generator")
        return self.generator


class CrossBlock(nn.Module):
    """A pre-norm decoder block: self-attention, cross-attention to a memory, a two-layer network with GELU.

    Vaswani et al. 2017, section 3.1, with pre-norm as in Xiong et al. 2020. Shapes: x (B, N, W), memory (B,
    M, W); the masks mark the keys that each query attends to, bool (N, N) and (N, M), None for all.
    """

    def __init__(self, width: int, heads: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.own, self.told, self.last = nn.LayerNorm(width), nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.merge = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.query, self.memory = nn.Linear(width, width), nn.Linear(width, 2 * width)
        self.gather = nn.Linear(width, width)
        self.rise, self.fall = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(
        self,
        x: Tensor,
        memory: Tensor,
        own: Tensor | None,
        cross: Tensor | None,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        q, k, v = self.qkv(self.own(x)).chunk(3, dim=-1)
        x = x + self._dropped(self.merge(self._attend(q, k, v, own, generator)), generator)
        q, (k, v) = self.query(self.told(x)), self.memory(memory).chunk(2, dim=-1)
        x = x + self._dropped(self.gather(self._attend(q, k, v, cross, generator)), generator)
        inner = self._dropped(F.gelu(self.rise(self.last(x))), generator)
        return x + self._dropped(self.fall(inner), generator)

    def _attend(
        self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, generator: torch.Generator | None
    ) -> Tensor:
        q, k, v = (part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in (q, k, v))  # (B, H, N, D)
        if generator is None or not self.dropout:
            mixed = attention(q, k, v, mask)
        else:
            scores = (q * q.shape[-1] ** -0.5) @ k.transpose(-1, -2)  # (B, H, N, M)
            scores = scores if mask is None else scores.masked_fill(~mask, float("-inf"))
            mixed = self._dropped(scores.softmax(dim=-1), generator) @ v
        return mixed.transpose(1, 2).flatten(-2)

    def _dropped(self, x: Tensor, generator: torch.Generator | None) -> Tensor:
        return dropped(x, self.dropout, generator)
