"""Diffusion transformer: a stack of transformer blocks over patches, the alternative to the U-Net.

Peebles & Xie 2023, "Scalable Diffusion Models with Transformers".
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from unveil.image.networks.blocks2d import embedded, zero
from unveil.image.networks.inputs2d import (
    class_labels,
    concatenated,
    noise_levels,
    pooled_vector,
    text_tokens,
)
from unveil.image.networks.transformer2d import CrossAttention
from unveil.network.condition import Condition
from unveil.network.layers import ModulatedBlock, by_eights, mlp, sinusoids

TIME_WIDTH = 256
"""Number of sinusoidal time features; cosines come first."""


@dataclass(frozen=True)
class DiTShape:
    """Shape of a `DiT`.

    Args:
        channels: C.
        patch: p; p x p pixels become a token.
        width: W, channels of a token.
        layers: number of blocks.
        heads: attention heads.
        expansion: the hidden layer of the feed-forward networks has `expansion * width` channels.
        labels: rows of the label embedding, which is added to the time embedding; 0 disables it.
        learned_variance: the second half of the output channels is the variance's, see `GaussianDenoiser`.
        concat: channels of `cond.concat`, concatenated with x; 0 disables it.
        context: width D of the text tokens, `cond.tokens`; 0: no text.
        cross: how they are read. "joint": normed and mapped to W, they stand before the patches in the
            sequence, without position; "cross": every block is followed by cross-attention.
        vector: width of `cond.vector`, which a small network maps and adds to the time embedding; 0: none.
        level: `cond.concat_level`, the noise level of `cond.concat`, has an embedding as that of the time,
            which is added to it.
    """

    channels: int
    patch: int = 2
    width: int = 384
    layers: int = 12
    heads: int = 6
    expansion: int = 4
    labels: int = 0
    learned_variance: bool = False
    concat: int = 0
    context: int = 0
    cross: Literal["joint", "cross"] = "joint"
    vector: int = 0
    level: bool = False


class DiT(nn.Module):
    """(x (B, C, H, W), time (B,), condition) -> (B, C, H, W), or (B, 2 C, H, W) with `learned_variance`.

    Patches are embedded, sinusoids of their row and column added; blocks with adaLN-Zero are conditioned on
    the time embedding, to which label and vector are added. It reads the same parts of a condition as
    `UNet2d`. The gates of the blocks, the cross-attention and the last layer start at zero.

    Raises:
        ValueError: numbers that do not fit, an x of another shape, or a part of the condition that is
            missing, of another shape or out of range.
    """

    def __init__(self, shape: DiTShape) -> None:
        super().__init__()
        self.shape = shape
        width, patch = shape.width, shape.patch
        if width % 4 or width % shape.heads:
            raise ValueError(f"DiT: width {width} is not a multiple of 4 and of {shape.heads} heads")
        self.time = _time_embedding(width)
        self.level = _time_embedding(width) if shape.level else None
        self.label = nn.Embedding(shape.labels, width) if shape.labels else None
        self.vector = mlp(shape.vector, width, width) if shape.vector else None
        self.enter = nn.Conv2d(shape.channels + shape.concat, width, patch, stride=patch)
        self.blocks = nn.ModuleList(
            [ModulatedBlock(width, shape.heads, shape.expansion) for _ in range(shape.layers)]
        )
        self.text, self.crosses = None, None
        if shape.context and shape.cross == "joint":
            self.text = nn.Sequential(nn.LayerNorm(shape.context), nn.Linear(shape.context, width))
        elif shape.context:
            head_width = width // shape.heads
            self.crosses = nn.ModuleList(
                [CrossAttention(width, shape.context, head_width) for _ in range(shape.layers)]
            )
        self.modulation = nn.Linear(width, 2 * width)
        self.leave = nn.Linear(width, patch**2 * shape.channels * (1 + shape.learned_variance))
        self._initialize()

    def _initialize(self) -> None:
        """As in the authors' code: Xavier for linear layers, N(0, .02^2) for embeddings, zero at the ends."""
        for module in self.modules():
            if isinstance(module, nn.Linear):
                zero(module)
                nn.init.xavier_uniform_(module.weight)
        zero(self.enter)
        nn.init.xavier_uniform_(self.enter.weight.flatten(1))
        for linear in (*self.time, *(self.level or ())):
            if isinstance(linear, nn.Linear):
                nn.init.normal_(linear.weight, std=0.02)
        if self.label is not None:
            nn.init.normal_(self.label.weight, std=0.02)
        for block in self.blocks:
            assert isinstance(block, ModulatedBlock)
            zero(block.modulation)
        for cross in self.crosses or ():
            assert isinstance(cross, CrossAttention)
            last = cross.to_out[0]
            assert isinstance(last, nn.Linear)
            zero(last)
        zero(self.modulation)
        zero(self.leave)

    def forward(self, x: Tensor, time: Tensor, cond: Condition | None = None) -> Tensor:
        it, patch = self.shape, self.shape.patch
        if x.ndim != 4 or x.shape[1] != it.channels or x.shape[2] % patch or x.shape[3] % patch:
            raise ValueError(
                f"DiT: x must be (B, {it.channels}, H, W) with sides that {patch} divides, got "
                f"{tuple(x.shape)}"
            )
        c = embedded(self.time, time, TIME_WIDTH, cosine_first=True, inclusive=False)  # (B, W)
        if self.level is not None:
            level = noise_levels("DiT", x.shape[0], cond).to(time)
            c = c + embedded(self.level, level, TIME_WIDTH, cosine_first=True, inclusive=False)
        if self.label is not None:
            c = c + self.label(class_labels("DiT", x.shape[0], it.labels, cond))
        if self.vector is not None:
            c = c + by_eights(self.vector, pooled_vector("DiT", x.shape[0], it.vector, cond))
        c = F.silu(c)
        tokens, valid = text_tokens("DiT", x.shape[0], it.context, cond)
        patches = self.enter(concatenated("DiT", x, it.concat, cond))  # (B, W, h, w)
        rows, columns = patches.shape[2:]
        h = patches.flatten(2).transpose(1, 2) + positions(rows, columns, it.width).to(patches)  # (B, h w, W)
        if self.text is not None:
            assert tokens is not None
            h = torch.cat([self.text(tokens), h], dim=1)
            valid = None if valid is None else F.pad(valid, (0, rows * columns), value=True)
        for k, block in enumerate(self.blocks):
            h = block(h, c, None if self.crosses is not None else valid)
            if self.crosses is not None:
                h = h + self.crosses[k](F.layer_norm(h, h.shape[-1:]), tokens, valid)
        shift, scale = by_eights(self.modulation, c)[:, None].chunk(2, dim=-1)
        h = torch.addcmul(shift, F.layer_norm(h[:, -rows * columns :], (it.width,)), 1.0 + scale)
        h = self.leave(h).to(x.dtype).unflatten(1, (rows, columns)).unflatten(-1, (patch, patch, -1))
        return h.permute(0, 5, 1, 3, 2, 4).flatten(4, 5).flatten(2, 3)  # (B, C, h, p, w, p) -> (B, C, H, W)


def _time_embedding(width: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(TIME_WIDTH, width), nn.SiLU(), nn.Linear(width, width))


def positions(rows: int, columns: int, width: int) -> Tensor:
    """Sinusoids of the column, then of the row, of each patch: (rows * columns, width), row after row."""
    down, across = torch.meshgrid(torch.arange(float(rows)), torch.arange(float(columns)), indexing="ij")
    return torch.cat([sinusoids(part.flatten(), width // 2) for part in (across, down)], dim=-1)
