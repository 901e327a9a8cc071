"""One-dimensional convolutional pieces over (B, channels, H), with the parameters of Diffuser's and Diffusion Policy's released code."""

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
    """Two `ConvBlock1d`, a time vector added between them, and a skip connection (1 x 1 where the channels change)."""

    def __init__(self, inputs: int, outputs: int, about: int, kernel: int) -> None:
        super().__init__()
        self.first, self.second = ConvBlock1d(inputs, outputs, kernel), ConvBlock1d(outputs, outputs, kernel)
        self.about = nn.Linear(about, outputs)
        self.skip = nn.Conv1d(inputs, outputs, 1) if inputs != outputs else nn.Identity()

    def forward(self, x: Tensor, about: Tensor) -> Tensor:
        return self.second(self.first(x) + self.about(F.mish(about))[:, :, None]) + self.skip(x)


class FilmConv1d(nn.Module):
    """Two `ConvBlock1d`, FiLM between them, and a skip connection (1 x 1 where the channels change).

    FiLM of a vector c: h <- gain * h + shift, (gain, shift) = W mish(c) + b, or h <- h + shift if not `scale`. Perez et al. 2018. The gain
    is what W says, not one more, as in Diffusion Policy's released code.
    """

    def __init__(
        self, inputs: int, outputs: int, about: int, kernel: int, groups: int = 8, scale: bool = True
    ) -> None:
        super().__init__()
        self.scale = scale
        self.first, self.second = (
            ConvBlock1d(inputs, outputs, kernel, groups),
            ConvBlock1d(outputs, outputs, kernel, groups),
        )
        self.about = nn.Linear(about, 2 * outputs if scale else outputs)
        self.skip = nn.Conv1d(inputs, outputs, 1) if inputs != outputs else nn.Identity()

    def forward(self, x: Tensor, about: Tensor) -> Tensor:
        h, film = self.first(x), self.about(F.mish(about))[:, :, None]
        if self.scale:
            gain, shift = film.chunk(2, dim=1)
            h = torch.addcmul(shift, gain, h)
        else:
            h = h + film
        return self.second(h) + self.skip(x)


class LinearAttention1d(nn.Module):
    """x + attention(norm(x)) at a cost linear in H: softmax(k over places) v' is summed once, and every query reads it.

    Shen et al. 2021 (Efficient Attention), without the softmax over the queries' features, as Diffuser's released code has it for
    HalfCheetah; the norm is over channels.
    """

    def __init__(self, channels: int, heads: int = 4, width: int = 32) -> None:
        super().__init__()
        self.heads, self.width = heads, width
        self.norm = nn.LayerNorm(channels)
        self.qkv = nn.Conv1d(channels, 3 * heads * width, 1, bias=False)
        self.merge = nn.Conv1d(heads * width, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        batch, _, count = x.shape
        normed = self.norm(x.transpose(1, 2)).transpose(1, 2)
        q, k, v = self.qkv(normed).reshape(batch, 3, self.heads, self.width, count).unbind(1)
        context = k.softmax(dim=-1) @ v.transpose(-1, -2)  # (B, heads, width of k, width of v)
        read = context.transpose(-1, -2) @ (q * self.width**-0.5)
        return x + self.merge(read.reshape(batch, self.heads * self.width, count))


def halving(channels: int) -> nn.Conv1d:
    """Every second place: H to ceil(H / 2)."""
    return nn.Conv1d(channels, channels, 3, stride=2, padding=1)
