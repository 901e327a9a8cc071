"""One-dimensional convolutional blocks over (B, channels, H).

Their parameters are those of the released code of Diffuser and Diffusion Policy.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class ConvBlock1d(nn.Module):
    """Convolution, GroupNorm, Mish."""

    def __init__(self, inputs: int, outputs: int, kernel: int, groups: int = 8) -> None:
        super().__init__()
        self.conv = nn.Conv1d(inputs, outputs, kernel, padding=kernel // 2)
        self.norm = nn.GroupNorm(groups, outputs)

    def forward(self, x: Tensor) -> Tensor:
        return F.mish(self.norm(self.conv(x)))


class ResidualConv1d(nn.Module):
    """Two `ConvBlock1d` with a time embedding added in between, and a skip connection.

    The skip connection is a 1 x 1 convolution if the channels change. Shapes: x (B, inputs, H) to
    (B, outputs, H), embedding (B, D).
    """

    def __init__(self, inputs: int, outputs: int, embedding: int, kernel: int) -> None:
        super().__init__()
        self.first, self.second = ConvBlock1d(inputs, outputs, kernel), ConvBlock1d(outputs, outputs, kernel)
        self.about = nn.Linear(embedding, outputs)
        self.skip = nn.Conv1d(inputs, outputs, 1) if inputs != outputs else nn.Identity()

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        return self.second(self.first(x) + self.about(F.mish(embedding))[:, :, None]) + self.skip(x)


class FilmConv1d(nn.Module):
    """Two `ConvBlock1d` with FiLM in between, and a skip connection as in `ResidualConv1d`.

    FiLM by an embedding c: h <- gain * h + shift with (gain, shift) = W mish(c) + b; without `scale`,
    h <- h + shift. The gain has no offset of 1, as in Diffusion Policy's released code. Perez et al. 2018.

    Shapes: x (B, inputs, H) to (B, outputs, H), embedding (B, D).
    """

    def __init__(
        self, inputs: int, outputs: int, embedding: int, kernel: int, groups: int = 8, scale: bool = True
    ) -> None:
        super().__init__()
        self.scale = scale
        self.first, self.second = (
            ConvBlock1d(inputs, outputs, kernel, groups),
            ConvBlock1d(outputs, outputs, kernel, groups),
        )
        self.about = nn.Linear(embedding, 2 * outputs if scale else outputs)
        self.skip = nn.Conv1d(inputs, outputs, 1) if inputs != outputs else nn.Identity()

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        h, film = self.first(x), self.about(F.mish(embedding))[:, :, None]
        if self.scale:
            gain, shift = film.chunk(2, dim=1)
            h = torch.addcmul(shift, gain, h)
        else:
            h = h + film
        return self.second(h) + self.skip(x)


class LinearAttention1d(nn.Module):
    """x + attention(norm(x)), x (B, C, H), at a cost linear in H.

    softmax(k over positions) v' is computed once and read by every query. Shen et al. 2021 (Efficient
    Attention), without the softmax over the features of the queries, as in Diffuser's released code for
    HalfCheetah. The norm is over channels.
    """

    def __init__(self, channels: int, heads: int = 4, width: int = 32) -> None:
        super().__init__()
        self.heads, self.width = heads, width
        self.norm = nn.LayerNorm(channels)
        self.qkv = nn.Conv1d(channels, 3 * heads * width, 1, bias=False)
        self.merge = nn.Conv1d(heads * width, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        batch, _, count = x.shape
        normed = self.norm(x.transpose(1, 2)).transpose(1, 2)  # (B, C, H)
        # q, k, v: (B, heads, width, H) each
        q, k, v = self.qkv(normed).reshape(batch, 3, self.heads, self.width, count).unbind(1)
        context = k.softmax(dim=-1) @ v.transpose(-1, -2)  # (B, heads, width of k, width of v)
        read = context.transpose(-1, -2) @ (q * self.width**-0.5)  # (B, heads, width, H)
        return x + self.merge(read.reshape(batch, self.heads * self.width, count))


def halving(channels: int) -> nn.Conv1d:
    """A convolution of stride 2: H to ceil(H / 2)."""
    return nn.Conv1d(channels, channels, 3, stride=2, padding=1)
