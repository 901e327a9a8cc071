"""A transformer over paths of any length, with several positions per token."""

from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from unveil.network.condition import Condition
from unveil.network.inference_layout import recording
from unveil.network.layers import ModulatedBlock, fourier, mlp, sinusoids


class PathTransformer(nn.Module):
    """(x (B, H, D), time (B,) in (0, 1], condition) -> (B, H, D), for every H.

    A token is a patch of `patch` consecutive positions; its index is counted from both ends. The output is an
    offset from the anchor path of the condition, so that an untrained network returns the anchor.

    Condition:
        concat (B, H, 2 D): the anchor path, and which numbers of x are known and clean (1) or noisy (0).
        vector (B, V): properties of the whole path, of order 1 (its ends and its log-length).
        valid (B, H): positions that are no padding, a prefix of each row.
        prefix: optional; the result of `prefill`, the same for all steps of a sample.

    Args:
        features: D, size of a position.
        vector: V, size of the condition's vector.
        width, depth, heads: sizes of the transformer.
        patch: positions per token.
        octaves: Fourier octaves of the features of x and of the vector.
    Raises:
        ValueError: the condition lacks a field or has a wrong shape.
    """

    def __init__(
        self,
        features: int,
        vector: int,
        width: int = 128,
        depth: int = 4,
        heads: int = 4,
        patch: int = 4,
        octaves: int = 6,
    ) -> None:
        super().__init__()
        self.features, self.vector, self.patch, self.width, self.octaves = (
            features,
            vector,
            patch,
            width,
            octaves,
        )
        self.time = mlp(width, width, width)
        self.about = mlp(vector * (2 * octaves + 1), 2 * width, width)
        self.enter = nn.Linear(patch * features * (3 + 2 * octaves), width)
        self.place = nn.Linear(2 * width, width)
        self.blocks = nn.ModuleList(ModulatedBlock(width, heads) for _ in range(depth))
        self.final = nn.Linear(width, 2 * width)
        self.leave = nn.Linear(width, patch * features)
        for layer in (self.final, self.leave):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, x: Tensor, time: Tensor, cond: Condition | None) -> Tensor:
        if cond is None or cond.concat is None or cond.vector is None or cond.valid is None:
            raise ValueError(
                "PathTransformer: the condition needs concat (anchor and known), vector and valid"
            )
        batch, horizon, features = x.shape
        if cond.concat.shape != (batch, horizon, 2 * features) or cond.valid.shape != (batch, horizon):
            raise ValueError(
                f"PathTransformer: for x {tuple(x.shape)} concat must be {(batch, horizon, 2 * features)} "
                "and valid "
                f"{(batch, horizon)}, got {tuple(cond.concat.shape)} and {tuple(cond.valid.shape)}"
            )
        anchor = cond.concat[..., :features]
        positions = torch.cat([x, cond.concat, fourier(x, self.octaves)], dim=-1)  # (B, H, ...)
        positions = positions * cond.valid[..., None]
        tokens = F.pad(positions, (0, 0, 0, -horizon % self.patch)).reshape(
            batch, -1, self.patch * positions.shape[-1]
        )
        valid = self._valid_tokens(cond.valid)
        vector, indices = cond.prefix if isinstance(cond.prefix, tuple) else self._once(cond.vector, valid)
        condition = F.silu(self.time(sinusoids(1000.0 * time, self.width)) + vector)  # (B, W)
        h = self.enter(tokens) + indices  # (B, N, W)
        mask = None if not recording() and bool(valid.all()) else valid
        for block in self.blocks:
            h = block(h, condition, mask)
        shift, scale = self.final(condition)[:, None].chunk(2, dim=-1)
        offset = self.leave(F.layer_norm(h, h.shape[-1:]) * (1.0 + scale) + shift)
        return anchor + offset.reshape(batch, -1, features)[:, :horizon]

    def prefill(self, cond: Condition) -> Condition:
        """The condition with `prefix`: embeddings of the vector (B, W) and of the token indices (B, N, W),
        which are the same in every step.

        Raises:
            ValueError: the condition lacks vector or valid.
        """
        if cond.vector is None or cond.valid is None:
            raise ValueError("PathTransformer.prefill: the condition needs vector and valid")
        return replace(cond, prefix=self._once(cond.vector, self._valid_tokens(cond.valid)))

    def _valid_tokens(self, valid: Tensor) -> Tensor:
        return F.pad(valid, (0, -valid.shape[1] % self.patch))[:, :: self.patch]

    def _once(self, vector: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
        features = torch.cat([vector, fourier(vector, self.octaves)], dim=-1)
        return self.about(features), self.place(self._indices(valid, vector))

    def _indices(self, valid: Tensor, x: Tensor) -> Tensor:
        """(B, N, 2 W): sinusoids of the number of tokens before each token, and of the number after it."""
        before = torch.arange(valid.shape[1], device=x.device, dtype=x.dtype).expand(valid.shape)
        left = valid.sum(1, keepdim=True).to(x.dtype) - 1.0 - before
        return torch.cat([sinusoids(before, self.width, 1000.0), sinusoids(left, self.width, 1000.0)], dim=-1)
