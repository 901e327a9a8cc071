"""The spatial transformer of Stable Diffusion: pixels attend to pixels, then to text.

Rombach et al. 2022, section 3.3; modules are named as in the published weights, which are the same in
CompVis' code and in diffusers.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from unveil.image.networks.blocks2d import zero
from unveil.network.layers import attention

LARGEST_SCORES = 2**26
"""Scores, queries times keys, that exist at once where they are written out: 256 MiB in float32."""
FUSED = ("cpu", "cuda", "meta")
"""Devices whose kernels never hold all scores."""


class SpatialTransformer2d(nn.Module):
    """x + out(blocks(in(norm(x)))): transformer blocks over the P = H W positions of x (B, C, H, W),
    conditioned on text tokens (B, N, context). The last layer starts at zero.

    Args:
        head_width: channels per attention head.
        context: width of the text tokens.
        groups: of GroupNorm, whose epsilon is 1e-6 here (1e-5 in the residual blocks of the same U-Net).
        layers: number of blocks.
        linear: `proj_in` and `proj_out` are linear layers on tokens, not 1 x 1 convolutions on the map.
        text_only: the blocks' first attention reads the text, too, instead of the pixels.
    """

    def __init__(
        self,
        channels: int,
        head_width: int,
        context: int,
        groups: int,
        layers: int = 1,
        linear: bool = False,
        text_only: bool = False,
    ) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(groups, channels, eps=1e-6)
        self.proj_in = nn.Linear(channels, channels) if linear else nn.Conv2d(channels, channels, 1)
        self.transformer_blocks = nn.ModuleList(
            [TransformerBlock2d(channels, head_width, context, text_only) for _ in range(layers)]
        )
        self.proj_out = nn.Linear(channels, channels) if linear else nn.Conv2d(channels, channels, 1)
        zero(self.proj_out)

    def forward(self, x: Tensor, tokens: Tensor, valid: Tensor | None = None) -> Tensor:
        """
        Args:
            x: (B, C, H, W).
            tokens: (B, N, context), the encoded text.
            valid: (B, N) bool, false at its padding, which is not attended to.
        """
        h = _projected(self.proj_in, self.norm(x).flatten(2).transpose(1, 2))  # (B, P, C)
        for block in self.transformer_blocks:
            h = block(h, tokens, valid)
        return x + _projected(self.proj_out, h).transpose(1, 2).reshape(x.shape)


class TransformerBlock2d(nn.Module):
    """x += attn1(norm1(x)); x += attn2(norm2(x), text); x += ff(norm3(x)), for x (B, P, W)."""

    def __init__(self, width: int, head_width: int, context: int, text_only: bool = False) -> None:
        super().__init__()
        self.text_only = text_only
        self.attn1 = CrossAttention(width, context if text_only else width, head_width)
        self.ff = GatedFeedForward(width)
        self.attn2 = CrossAttention(width, context, head_width)
        self.norm1, self.norm2, self.norm3 = (nn.LayerNorm(width) for _ in range(3))

    def forward(self, x: Tensor, tokens: Tensor, valid: Tensor | None) -> Tensor:
        normed = self.norm1(x)
        x = x + (self.attn1(normed, tokens, valid) if self.text_only else self.attn1(normed, normed))
        x = x + self.attn2(self.norm2(x), tokens, valid)
        return x + self.ff(self.norm3(x))


class CrossAttention(nn.Module):
    """W softmax(Q K' / sqrt(D)) V + b, queries of x (B, P, W), keys and values of the context (B, N, C).

    Only the last map has a bias. Rows of the batch none of whose tokens are valid get b.
    """

    def __init__(self, width: int, context: int, head_width: int) -> None:
        super().__init__()
        self.heads = width // head_width
        self.to_q = nn.Linear(width, width, bias=False)
        self.to_k = nn.Linear(context, width, bias=False)
        self.to_v = nn.Linear(context, width, bias=False)
        self.to_out = nn.Sequential(nn.Linear(width, width))

    def forward(self, x: Tensor, context: Tensor, valid: Tensor | None = None) -> Tensor:
        q, k, v = (  # each (B, heads, P or N, D)
            part.unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for part in (self.to_q(x), self.to_k(context), self.to_v(context))
        )
        if valid is None:
            mixed = sliced_attention(q, k, v, None)
        else:
            some = valid.any(dim=1)[:, None, None, None]  # (B, 1, 1, 1)
            mixed = sliced_attention(q, k, v, valid[:, None, None, :] | ~some) * some
        return self.to_out(mixed.transpose(1, 2).flatten(-2))


class GatedFeedForward(nn.Module):
    """W (a gelu(b)) + c, (a, b) = V x + d, four times as wide inside: GEGLU (Shazeer 2020) with the exact
    gelu."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.net = nn.ModuleList([GEGLU(width, 4 * width), nn.Identity(), nn.Linear(4 * width, width)])

    def forward(self, x: Tensor) -> Tensor:
        return self.net[2](self.net[0](x))


class GEGLU(nn.Module):
    """a gelu(b), where (a, b) are the halves of a linear map."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.proj = nn.Linear(inputs, 2 * outputs)

    def forward(self, x: Tensor) -> Tensor:
        value, gate = self.proj(x).chunk(2, dim=-1)
        return value * F.gelu(gate)


def sliced_attention(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
    """softmax(q k' / sqrt(D)) v without all scores in memory at once, and without overflow in half precision.

    On CPUs and on CUDA, PyTorch's fused kernels never hold the scores. Elsewhere queries are taken in slices
    of at most `LARGEST_SCORES` scores, which changes nothing in the result. Scores of float16 exceed 65,504
    in Stable Diffusion 2.1 and gave black pictures; the fused kernels of CUDA sum in float32, elsewhere q, k
    and v become float32.

    Args:
        q, k, v, mask: as in `layers.attention`, of four axes.
    """
    if q.dtype == torch.float16 and q.device.type != "cuda":
        return sliced_attention(q.float(), k.float(), v.float(), mask).to(q.dtype)
    scores = q.shape[0] * q.shape[1] * k.shape[2]  # of one query
    if q.device.type in FUSED or scores * q.shape[2] <= LARGEST_SCORES:
        return attention(q, k, v, mask)
    size = max(1, LARGEST_SCORES // scores)
    return torch.cat([attention(part, k, v, mask) for part in q.split(size, dim=2)], dim=2)


def _projected(layer: nn.Module, tokens: Tensor) -> Tensor:
    """A linear layer, or a 1 x 1 convolution as the linear layer that it is, of tokens (B, P, C)."""
    if isinstance(layer, nn.Conv2d):
        return F.linear(tokens, layer.weight[:, :, 0, 0], layer.bias)
    return layer(tokens)
