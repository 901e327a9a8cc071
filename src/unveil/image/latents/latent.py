"""Latent spaces: images as small codes of about unit variance, in which a diffusion model is trained.

Rombach et al. 2022, sections 3.1 and 4.3.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from unveil.image.networks.autoencoder import Autoencoder
from unveil.image.networks.taesd import TinyAutoencoder

STABLE_DIFFUSION = 0.18215
"""Scale of the codes of Stable Diffusion 1.x and 2.x; that of its x4 upscaler is 0.08333."""


class LatentMoments(NamedTuple):
    """The distribution of the codes of a batch of images, N(mean, std^2), in units of the latent space.

    Args:
        mean: (B, Z, h, w).
        std: like `mean`; None: the codes are their mean.
    """

    mean: Tensor
    std: Tensor | None

    def sample(self, generator: torch.Generator | None) -> Tensor:
        """Draw z = mean + std * noise; without a generator, or without a std, the mean."""
        if self.std is None or generator is None:
            return self.mean
        noise = torch.randn(self.mean.shape, generator=generator, device=generator.device)
        return self.mean + self.std * noise.to(self.mean)


class Latents(nn.Module):
    """z = scale * code of an image; images are (B, C, H, W) in -1 .. 1, and z is (B, Z, H / f, W / f).

    Args:
        network: the autoencoder.
        scale: the scale of the codes, 1 / their standard deviation; a buffer, so that it is stored with the
            weights.
    """

    scale: Tensor

    def __init__(self, network: Autoencoder | TinyAutoencoder, scale: float = 1.0) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("scale", torch.tensor(float(scale)))

    @property
    def device(self) -> torch.device:
        """The device of the weights."""
        return self.scale.device

    @property
    def factor(self) -> int:
        """Side of an image divided by that of its code, f."""
        return self.network.shape.factor

    @property
    def random(self) -> bool:
        """Whether an image has a distribution of codes, not a single one."""
        return isinstance(self.network, Autoencoder)

    @property
    def channels(self) -> int:
        """Number of channels of a code, Z."""
        return self.network.shape.latent

    @property
    def colours(self) -> int:
        """Number of channels of an image, C: 1 or 3."""
        return self.network.shape.channels

    def shape_of(self, colours: int, height: int, width: int) -> tuple[int, int, int]:
        """The shape (Z, H / f, W / f) of the code of an image of shape (C, H, W).

        Raises:
            ValueError: f does not divide a side, or the autoencoder has another number of colours.
        """
        if colours != self.colours:
            raise ValueError(
                f"the images have {colours} channels, but the autoencoder is made for {self.colours}; take "
                "another autoencoder, or other images"
            )
        if height % self.factor or width % self.factor:
            raise ValueError(
                f"images of {width} x {height} pixels: sides must be multiples of {self.factor}, the factor "
                "of the autoencoder; give another `size`"
            )
        return self.channels, height // self.factor, width // self.factor

    def moments(self, x: Tensor) -> LatentMoments:
        """Mean and standard deviation of the codes of images x.

        Raises:
            ValueError: an x of another shape, or sides that f does not divide.
        """
        if isinstance(self.network, TinyAutoencoder):
            return LatentMoments(self.scale * self.network.encode(0.5 * (x + 1.0)), None)
        mean, log_variance = self.network.encode(x)
        return LatentMoments(self.scale * mean, self.scale * torch.exp(0.5 * log_variance))

    def encode(self, x: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Codes z of images x, drawn with the generator; without one, their mean. Raises as `moments`."""
        return self.moments(x).sample(generator)

    def decode(self, z: Tensor) -> Tensor:
        """Images of codes, clipped to -1 .. 1.

        Raises:
            ValueError: a z of another shape.
        """
        x = self.network.decode(z / self.scale)
        return (2.0 * x - 1.0 if isinstance(self.network, TinyAutoencoder) else x).clamp(-1.0, 1.0)
