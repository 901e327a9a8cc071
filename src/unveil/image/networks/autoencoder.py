"""The convolutional autoencoder of latent diffusion, with a Gaussian code: Stable Diffusion's KL-f8, and
smaller ones.

Rombach et al. 2022, section 3.1 and appendix G; Esser et al. 2021, table 7. As `KL_F8` it has the 248 tensors
and 83,653,863 parameters of Stable Diffusion's `first_stage_model`.
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from unveil.network.layers import attention

EPSILON = 1e-6  # of every GroupNorm; the U-Net of Stable Diffusion has 1e-5
LOWEST, HIGHEST = -30.0, 20.0  # bounds of the log variance


@dataclass(frozen=True)
class AutoencoderShape:
    """Shape of an `Autoencoder`.

    Args:
        channels: channels of the image, C.
        width, multiples: level k, 0 the finest, has `width * multiples[k]` channels; each level has half the
            side of the one before.
        blocks: residual blocks per level of the encoder; the decoder has one more.
        latent: channels of the code, Z.
        groups: of GroupNorm; divides every number of channels.
        attention: the middle has attention over all positions, with one head.
        stem: patch size; stem x stem pixels are folded into channels before the first convolution and
            unfolded after the last, which is faster; 1 in published autoencoders.
    Raises:
        ValueError: no level, or numbers of channels that `groups` does not divide.
    """

    channels: int = 3
    width: int = 128
    multiples: tuple[int, ...] = (1, 2, 4, 4)
    blocks: int = 2
    latent: int = 4
    groups: int = 32
    attention: bool = True
    stem: int = 1

    def __post_init__(self) -> None:
        if not self.multiples:
            raise ValueError("`multiples` must have at least one number")
        for size in self.widths:
            if size % self.groups:
                raise ValueError(f"`groups` {self.groups} must divide every number of channels, got {size}")

    @property
    def widths(self) -> tuple[int, ...]:
        """Number of channels of each level, the finest first."""
        return tuple(self.width * multiple for multiple in self.multiples)

    @property
    def factor(self) -> int:
        """Side of the image divided by that of the code, f."""
        return self.stem * 2 ** (len(self.multiples) - 1)


KL_F8 = AutoencoderShape()
"""Stable Diffusion 1.x and 2.x; 512 x 512 x 3 pixels become 64 x 64 x 4."""


class Reconstruction(NamedTuple):
    """What an `Autoencoder` makes of a batch of images.

    Args:
        x: (B, C, H, W), the decoded images.
        z: (B, Z, H / f, W / f), the codes that were decoded.
        mean, log_variance: of the codes, like `z`.
    """

    x: Tensor
    z: Tensor
    mean: Tensor
    log_variance: Tensor


class Autoencoder(nn.Module):
    """q(z | x) = N(mean(x), exp(log_variance(x))) and x = decode(z), for images in -1 .. 1."""

    def __init__(self, shape: AutoencoderShape) -> None:
        super().__init__()
        self.shape = shape
        self.encoder = Encoder(shape)
        self.moments = nn.Conv2d(2 * shape.latent, 2 * shape.latent, 1)
        self.enter = nn.Conv2d(shape.latent, shape.latent, 1)
        self.decoder = Decoder(shape)

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log variance, each (B, Z, H / f, W / f), of the codes of images (B, C, H, W).

        The log variance is clamped to [-30, 20].

        Raises:
            ValueError: an x of another shape, or sides that f does not divide.
        """
        channels, factor = self.shape.channels, self.shape.factor
        if x.ndim != 4 or x.shape[1] != channels or x.shape[2] % factor or x.shape[3] % factor:
            raise ValueError(
                f"Autoencoder: x must be (B, {channels}, H, W) with sides that {factor} divides, got "
                f"{tuple(x.shape)}"
            )
        mean, log_variance = self.moments(self.encoder(x)).chunk(2, dim=1)
        return mean, log_variance.clamp(LOWEST, HIGHEST)

    def decode(self, z: Tensor) -> Tensor:
        """Images (B, C, f h, f w) of codes (B, Z, h, w), without clipping.

        Raises:
            ValueError: a z of another shape.
        """
        if z.ndim != 4 or z.shape[1] != self.shape.latent:
            raise ValueError(f"Autoencoder: z must be (B, {self.shape.latent}, h, w), got {tuple(z.shape)}")
        return self.decoder(self.enter(z))

    def forward(self, x: Tensor, noise: Tensor) -> Reconstruction:
        """Encode, sample z = mean + exp(log_variance / 2) noise, and decode.

        Args:
            noise: standard normal, like the codes.
        """
        mean, log_variance = self.encode(x)
        z = mean + torch.exp(0.5 * log_variance) * noise
        return Reconstruction(self.decode(z), z, mean, log_variance)


class Encoder(nn.Module):
    """(B, C, H, W) -> (B, 2 Z, H / f, W / f): per level `blocks` residual blocks and, but for the last, a
    convolution that halves the sides; then the middle; then norm, SiLU, convolution."""

    def __init__(self, shape: AutoencoderShape) -> None:
        super().__init__()
        widths, groups = shape.widths, shape.groups
        self.stem = shape.stem
        self.enter = nn.Conv2d(shape.channels * shape.stem**2, widths[0], 3, padding=1)
        self.levels = nn.ModuleList()
        for level, (before, width) in enumerate(zip((widths[0], *widths[:-1]), widths, strict=True)):
            blocks = [Residual2d(before if k == 0 else width, width, groups) for k in range(shape.blocks)]
            last = level + 1 == len(widths)
            self.levels.append(nn.Sequential(*blocks, *([] if last else [HalveAfter2d(width)])))
        self.middle = middle(widths[-1], groups, shape.attention)
        self.norm = nn.GroupNorm(groups, widths[-1], eps=EPSILON)
        self.leave = nn.Conv2d(widths[-1], 2 * shape.latent, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        h = self.enter(F.pixel_unshuffle(x, self.stem) if self.stem > 1 else x)
        for level in self.levels:
            h = level(h)
        return self.leave(F.silu(self.norm(self.middle(h))))


class Decoder(nn.Module):
    """(B, Z, h, w) -> (B, C, f h, f w): the middle; from the coarsest level on `blocks` + 1 residual blocks
    and, but for the finest, nearest-neighbour upsampling and a convolution; then norm, SiLU, convolution."""

    def __init__(self, shape: AutoencoderShape) -> None:
        super().__init__()
        widths, groups = shape.widths[::-1], shape.groups
        self.stem = shape.stem
        self.enter = nn.Conv2d(shape.latent, widths[0], 3, padding=1)
        self.middle = middle(widths[0], groups, shape.attention)
        self.levels = nn.ModuleList()
        for level, (before, width) in enumerate(zip((widths[0], *widths[:-1]), widths, strict=True)):
            blocks = [Residual2d(before if k == 0 else width, width, groups) for k in range(shape.blocks + 1)]
            last = level + 1 == len(widths)
            self.levels.append(nn.Sequential(*blocks, *([] if last else [DoubleNearest2d(width)])))
        self.norm = nn.GroupNorm(groups, widths[-1], eps=EPSILON)
        self.leave = nn.Conv2d(widths[-1], shape.channels * shape.stem**2, 3, padding=1)

    def forward(self, z: Tensor) -> Tensor:
        h = self.middle(self.enter(z))
        for level in self.levels:
            h = level(h)
        h = self.leave(F.silu(self.norm(h)))
        return F.pixel_shuffle(h, self.stem) if self.stem > 1 else h


def middle(width: int, groups: int, attended: bool) -> nn.Sequential:
    """Residual block, attention if `attended`, residual block; at the smallest sides."""
    attention = [PixelAttention2d(width, groups)] if attended else []
    return nn.Sequential(Residual2d(width, width, groups), *attention, Residual2d(width, width, groups))


class Residual2d(nn.Module):
    """skip(x) + conv(silu(norm(conv(silu(norm(x)))))); a 1 x 1 convolution skips where the width changes."""

    def __init__(self, inputs: int, outputs: int, groups: int) -> None:
        super().__init__()
        self.first_norm = nn.GroupNorm(groups, inputs, eps=EPSILON)
        self.first = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.second_norm = nn.GroupNorm(groups, outputs, eps=EPSILON)
        self.second = nn.Conv2d(outputs, outputs, 3, padding=1)
        self.skip = nn.Conv2d(inputs, outputs, 1) if inputs != outputs else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        h = self.first(F.silu(self.first_norm(x)))
        return self.skip(x) + self.second(F.silu(self.second_norm(h)))


class PixelAttention2d(nn.Module):
    """x + W softmax(q k' / sqrt(C)) v of norm(x), with one head over all N = H W positions."""

    def __init__(self, channels: int, groups: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(groups, channels, eps=EPSILON)
        self.query = nn.Linear(channels, channels)
        self.key = nn.Linear(channels, channels)
        self.value = nn.Linear(channels, channels)
        self.merge = nn.Linear(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.norm(x).flatten(2).transpose(1, 2)[:, None]  # (B, 1, N, C)
        mixed = attention(self.query(tokens), self.key(tokens), self.value(tokens), None)
        return x + self.merge(mixed)[:, 0].transpose(1, 2).reshape(x.shape)


class HalveAfter2d(nn.Module):
    """3 x 3 convolution with stride 2, zero-padded on the right and below only: sides 2 N to N."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(F.pad(x, (0, 1, 0, 1)))


class DoubleNearest2d(nn.Module):
    """Nearest-neighbour upsampling, then a 3 x 3 convolution: sides N to 2 N."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(F.interpolate(x, scale_factor=2.0, mode="nearest"))
