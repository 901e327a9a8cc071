"""Tiny autoencoders that were distilled from those of published latent diffusion models: TAESD, TAEF2.

github.com/madebyollin/taesd. The modules have the names of its files: their positions in two sequences.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

BOUND = 3.0  # codes z enter the decoder as 3 tanh(z / 3)
STAGES = 3  # halvings of the sides


@dataclass(frozen=True)
class TinyShape:
    """Shape of a `TinyAutoencoder`, by default that of TAESD (for Stable Diffusion 1.x and 2.x).

    Args:
        latent: channels of the code, Z; 4 for TAESD, 32 for TAEF2.
        width: channels of every block.
        pooled: the blocks at the smallest side begin with a global normalisation, as in TAEF2.
        channels: channels of the image, C.
    """

    latent: int = 4
    width: int = 64
    pooled: bool = False
    channels: int = 3

    @property
    def factor(self) -> int:
        """Side of the image divided by that of the code."""
        return 2**STAGES


TAEF2 = TinyShape(latent=32, pooled=True)
"""Distilled from the autoencoder of FLUX.2; 64 x 64 x 3 pixels become 8 x 8 x 32."""


class TinyAutoencoder(nn.Module):
    """z = encode(x), x = decode(z) for images in 0 .. 1; deterministic."""

    def __init__(self, shape: TinyShape) -> None:
        super().__init__()
        self.shape = shape
        width, pooled = shape.width, shape.pooled
        encoder: list[nn.Module] = [_conv(shape.channels, width), TinyBlock(width)]
        decoder: list[nn.Module] = [TanhBound(), _conv(shape.latent, width), nn.ReLU()]
        for stage in range(1, STAGES + 1):
            smallest = pooled and stage == STAGES
            encoder += [_conv(width, width, stride=2, bias=False), *_blocks(width, smallest)]
        for stage in range(STAGES):
            decoder += _blocks(width, pooled and stage == 0)
            decoder += [nn.Upsample(scale_factor=2.0), _conv(width, width, bias=False)]
        self.encoder = nn.Sequential(*encoder, _conv(width, shape.latent))
        self.decoder = nn.Sequential(*decoder, TinyBlock(width), _conv(width, shape.channels))

    def encode(self, x: Tensor) -> Tensor:
        """Codes (B, Z, H / 8, W / 8) of images (B, C, H, W) in 0 .. 1.

        Raises:
            ValueError: an x of another shape, or sides that 8 does not divide.
        """
        channels, factor = self.shape.channels, self.shape.factor
        if x.ndim != 4 or x.shape[1] != channels or x.shape[2] % factor or x.shape[3] % factor:
            raise ValueError(
                f"TinyAutoencoder: x must be (B, {channels}, H, W) with sides that {factor} divides, got "
                f"{tuple(x.shape)}"
            )
        return self.encoder(x)

    def decode(self, z: Tensor) -> Tensor:
        """Images (B, C, 8 h, 8 w), about in 0 .. 1, of codes (B, Z, h, w).

        Raises:
            ValueError: a z of another shape.
        """
        latent = self.shape.latent
        if z.ndim != 4 or z.shape[1] != latent:
            raise ValueError(f"TinyAutoencoder: z must be (B, {latent}, h, w), got {tuple(z.shape)}")
        return self.decoder(z)


class TanhBound(nn.Module):
    """3 tanh(z / 3)."""

    def forward(self, z: Tensor) -> Tensor:
        return BOUND * torch.tanh(z / BOUND)


class TinyBlock(nn.Module):
    """relu(y + three convolutions of y), where y = x, or if `pooled` x + W' relu(norm(W x)), whose norm has
    four groups over all positions."""

    def __init__(self, width: int, pooled: bool = False) -> None:
        super().__init__()
        first, second, third = (_conv(width, width) for _ in range(3))
        self.conv = nn.Sequential(first, nn.ReLU(), second, nn.ReLU(), third)
        self.pool = None
        if pooled:
            rise = nn.Conv2d(width, 4 * width, 1, bias=False)
            fall = nn.Conv2d(4 * width, width, 1, bias=False)
            self.pool = nn.Sequential(rise, nn.GroupNorm(4, 4 * width), nn.ReLU(), fall)

    def forward(self, x: Tensor) -> Tensor:
        y = x if self.pool is None else x + self.pool(x)
        return torch.relu(y + self.conv(y))


def _conv(inputs: int, outputs: int, stride: int = 1, bias: bool = True) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=bias)


def _blocks(width: int, pooled: bool) -> list[nn.Module]:
    return [TinyBlock(width, pooled) for _ in range(3)]
