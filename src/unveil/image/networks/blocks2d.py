"""Blocks of the image U-Net: residual block, attention over pixels and text, changes of the sides."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from unveil.network.layers import attention, by_eights, dropped, sinusoids

Generator = torch.Generator | None


def time_embedding(width: int) -> nn.Sequential:
    """The network of the time embedding: from `width` sinusoids to four times as many numbers."""
    return nn.Sequential(nn.Linear(width, 4 * width), nn.SiLU(), nn.Linear(4 * width, 4 * width))


def embedded(network: nn.Module, time: Tensor, width: int, cosine_first: bool, inclusive: bool) -> Tensor:
    """The embedding (B, 4 width) of times (B,); arguments as in `UNet2dShape`."""
    waves = sinusoids(time, width, inclusive=inclusive)  # (B, width), in the precision of the times
    waves = waves.to(next(network.parameters()).dtype)
    return by_eights(network, waves.roll(width // 2, -1) if cosine_first else waves)


class ResidualConv2d(nn.Module):
    """skip(x) + conv(silu(norm(conv(silu(norm(x))) + W a))), a = silu(embedding); with `scale_shift` norm(.)
    (1 + scale) + shift instead.

    Args:
        embedding: size of the time embedding.
        change: "halve" or "double" the sides, of both branches, before the first convolution: mean of 2 x 2,
            or nearest neighbour.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        embedding: int,
        groups: int,
        dropout: float = 0.0,
        norm_epsilon: float = 1e-6,
        *,
        scale_shift: bool = False,
        change: str = "",
    ) -> None:
        super().__init__()
        self.scale_shift, self.change, self.dropout = scale_shift, change, dropout
        self.first_norm = nn.GroupNorm(groups, inputs, eps=norm_epsilon)
        self.first = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.about = nn.Linear(embedding, 2 * outputs if scale_shift else outputs)
        self.second_norm = nn.GroupNorm(groups, outputs, eps=norm_epsilon)
        self.second = nn.Conv2d(outputs, outputs, 3, padding=1)
        zero(self.second)
        self.skip = nn.Conv2d(inputs, outputs, 1) if inputs != outputs else nn.Identity()

    def forward(
        self, x: Tensor, embedding: Tensor, generator: Generator = None, sides: torch.Size | None = None
    ) -> Tensor:
        h = F.silu(self.first_norm(x))
        if self.change == "halve":
            h, x = _halved(h), _halved(x)
        elif self.change == "double":
            assert sides is not None
            h, x = _doubled(h, sides), _doubled(x, sides)
        h = self.first(h)
        shifts = by_eights(self.about, F.silu(embedding))[:, :, None, None]  # (B, C or 2 C, 1, 1)
        if self.scale_shift:
            scale, shift = shifts.chunk(2, dim=1)
            h = torch.addcmul(shift, self.second_norm(h), 1.0 + scale)
        else:
            h = self.second_norm(h + shifts)
        return self.skip(x) + self.second(dropped(F.silu(h), self.dropout, generator))


class Attention2d(nn.Module):
    """x + W attention(norm(x)) over all P = H W positions, with heads of `head_width` channels; 0 groups: no
    norm. W starts at zero.

    With `context`, the keys and values of N text tokens (B, N, context), normed and mapped by a linear layer
    of their own, stand before those of the pixels: one softmax over N + P. Nichol et al. 2021 (GLIDE).

    Args:
        context: width of the text tokens; 0: pixels attend to pixels only.
        token_norm: norm the text tokens first; GLIDE does not.
    """

    def __init__(
        self,
        channels: int,
        head_width: int,
        groups: int,
        norm_epsilon: float = 1e-6,
        context: int = 0,
        token_norm: bool = True,
    ) -> None:
        super().__init__()
        self.heads = channels // head_width
        self.norm = nn.GroupNorm(groups, channels, eps=norm_epsilon) if groups else nn.Identity()
        self.qkv = nn.Linear(channels, 3 * channels)
        self.merge = nn.Linear(channels, channels)
        zero(self.merge)
        norm = nn.LayerNorm(context) if context and token_norm else nn.Identity()
        self.text = nn.Sequential(norm, nn.Linear(context, 2 * channels)) if context else None

    def forward(self, x: Tensor, tokens: Tensor | None = None, valid: Tensor | None = None) -> Tensor:
        """
        Args:
            x: (B, C, H, W).
            tokens: (B, N, context), the encoded text.
            valid: (B, N) bool, false at its padding, which is not attended to.
        """
        pixels = self.norm(x).flatten(2).transpose(1, 2)  # (B, P, C)
        q, k, v = (self._by_heads(part) for part in self.qkv(pixels).chunk(3, dim=-1))  # (B, heads, P, D)
        mask = None
        if self.text is not None:
            assert tokens is not None
            text_k, text_v = (self._by_heads(part) for part in self.text(tokens).chunk(2, dim=-1))
            k, v = torch.cat([text_k, k], dim=2), torch.cat([text_v, v], dim=2)  # (B, heads, N + P, D)
            if valid is not None:
                mask = F.pad(valid, (0, pixels.shape[1]), value=True)[:, None, None, :]  # (B, 1, 1, N + P)
        mixed = attention(q, k, v, mask).transpose(1, 2).flatten(-2)  # (B, P, C)
        return x + self.merge(mixed).transpose(1, 2).reshape(x.shape)

    def _by_heads(self, features: Tensor) -> Tensor:
        return features.unflatten(-1, (self.heads, -1)).transpose(1, 2)


class Halve2d(nn.Module):
    """Convolution with stride 2: sides N to ceil(N / 2); with `after`, padded on the right and below only, to
    floor(N / 2)."""

    change = "halve"

    def __init__(self, channels: int, after: bool = False) -> None:
        super().__init__()
        self.after = after
        self.conv = nn.Conv2d(channels, channels, 3, stride=2, padding=0 if after else 1)

    def forward(self, x: Tensor, embedding: Tensor, generator: Generator = None) -> Tensor:
        return self.conv(F.pad(x, (0, 1, 0, 1)) if self.after else x)


class Double2d(nn.Module):
    """Nearest-neighbour upsampling to the given sides (2 N, or 2 N - 1), then a convolution."""

    change = "double"

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor, embedding: Tensor, generator: Generator, sides: torch.Size) -> Tensor:
        return self.conv(_doubled(x, sides))


def _halved(x: Tensor) -> Tensor:
    return F.avg_pool2d(x, 2, ceil_mode=True)


def _doubled(x: Tensor, sides: torch.Size) -> Tensor:
    return x.repeat_interleave(2, dim=-2).repeat_interleave(2, dim=-1)[..., : sides[0], : sides[1]]


def zero(layer: nn.Conv2d | nn.Linear) -> None:
    """Set weight and bias to zero, so that the branch which ends here starts as nothing."""
    nn.init.zeros_(layer.weight)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
