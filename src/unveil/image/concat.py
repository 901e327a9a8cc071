"""Conditions that an image model sees beside the noisy image, as further channels.

- `inpaint`: a mask, 1 where the image is generated, and the image with that part in mid-grey (as in Stable
  Diffusion's inpainting models; Rombach et al. 2022, section 4.5);
- `lowres`: the image at a lower resolution, with noise of a known level (conditioning augmentation; Ho et
  al. 2022, "Cascaded diffusion models", section 4);
- `map`: a channel for each label of a semantic map;
- `known`: the image where it is known, and a mask, 1 there (GLIDE's inpainting; Nichol et al. 2021).
"""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from unveil.image.latents.latent import Latents
from unveil.process.corrupt import corrupt
from unveil.process.schedule import Tabulated, cached, linear_betas, tabulated

UNLABELLED = 255
"""Number of a pixel without label in a semantic map; all its channels are 0."""
NOISE_STEPS = 1000
"""Number of noise levels of a low-resolution image; level n is the noise of DDPM's linear table at t = n /
1000, and 0 is none."""


class Beside(NamedTuple):
    """What a batch of images is conditioned on, before it becomes channels, with all its random numbers.

    Args:
        pictures: (B, C, H, W) pixels 0 .. 255, clean; None for maps.
        hole: (B, 1, H, W) bool, True where the image is generated.
        labels: (B, H, W) uint8, labels of a semantic map.
        level: (B,) whole numbers, noise levels of the low-resolution images.
        noise: (B, C, s, s) standard normal noise for them.
    """

    pictures: Tensor | None = None
    hole: Tensor | None = None
    labels: Tensor | None = None
    level: Tensor | None = None
    noise: Tensor | None = None


def masked(x: Tensor, hole: Tensor, latent: Latents | None = None) -> Tensor:
    """The channels of inpainting: (B, 1 + C, H, W), the mask, 1 where the image is generated, and the image,
    0 (mid-grey) there; of latent models (B, 1 + Z, h, w), the mask by nearest neighbour and the mean code.

    Args:
        x: (B, C, H, W) in -1 .. 1.
        hole: (B or 1, 1, H, W) bool, True where the image is generated.
    """
    hole = hole.to(x.device)
    seen = x * ~hole
    if latent is not None:
        if x.is_meta:  # memory is counted, and nothing computed
            seen = x.new_empty((len(x), *latent.shape_of(*x.shape[1:])))
        else:
            with torch.no_grad():
                seen = latent.encode(seen)
    mask = F.interpolate(hole.to(x.dtype), seen.shape[2:])
    return torch.cat([mask.expand(len(seen), -1, -1, -1), seen], dim=1)


def known_part(x: Tensor, known: Tensor) -> Tensor:
    """The channels of GLIDE's inpainting: (B, C + 1, H, W), the image, 0 where it is not known, and the mask.

    Args:
        x: (B, C, H, W) in -1 .. 1.
        known: (B or 1, 1, H, W) bool, True where the image is known.
    """
    mask = known.to(x).expand(len(x), -1, -1, -1)
    return torch.cat([x * mask, mask], dim=1)


def low_channels(colours: int, upsample: int, factor: int) -> int:
    """Number of channels of `enlarged`.

    Args:
        upsample: factor by which the images are enlarged.
        factor: of the latent space; 1: pixels.
    Raises:
        ValueError: neither number divides the other.
    """
    if factor % upsample and upsample % factor:
        raise ValueError(
            f"`upsample` {upsample}: with a latent space of factor {factor} it must divide {factor} or be a "
            "multiple of it"
        )
    return colours * max(1, factor // upsample) ** 2


def enlarged(low: Tensor, side: int) -> Tensor:
    """Low-resolution images (B, C, s, s) as channels on a grid of side x side: bilinear if it is finer (as in
    Dhariwal & Nichol 2021), and if it is coarser, as that of a latent space may be, each square of pixels
    folded into channels, so that nothing is lost."""
    if (fold := low.shape[-1] // side) > 1:
        return F.pixel_unshuffle(low, fold)
    return F.interpolate(low, size=(side, side), mode="bilinear", align_corners=False)


def noised(low: Tensor, level: Tensor, noise: Tensor) -> Tensor:
    """Low-resolution images with noise of a level 0 .. 1000, sqrt(a) low + sqrt(1 - a) noise, where a =
    alpha_bar of DDPM's linear table at entry `level` (from 1), and 1 for level 0.

    Args:
        level: (B,) whole numbers.
    """
    dirty = corrupt(_low_schedule(), low, level.double() / NOISE_STEPS, noise.to(low))
    return torch.where((level > 0).to(low.device)[:, None, None, None], dirty, low)


@cached
def _low_schedule() -> Tabulated:
    return tabulated(linear_betas(NOISE_STEPS))


def one_hot(labels: Tensor, count: int, factor: int = 1) -> Tensor:
    """A semantic map (B, H, W) as channels (B, count, H / factor, W / factor): 1 for the label of a pixel and
    0 for the others, or the shares of the labels in squares of factor x factor pixels."""
    kinds = torch.arange(count, device=labels.device)
    channels = (labels[:, None] == kinds[:, None, None]).float()
    return F.avg_pool2d(channels, factor) if factor > 1 else channels


def check_map(labels: Tensor, count: int, what: str = "the map") -> None:
    """Refuse labels that are not 0 .. count - 1 or `UNLABELLED`.

    Raises:
        ValueError: such a label.
    """
    wrong = labels[(labels >= count) & (labels != UNLABELLED)]
    if len(wrong):
        raise ValueError(
            f"{what}: label {int(wrong.max())}, but the model knows 0 .. {count - 1}, and {UNLABELLED} for "
            "pixels without label"
        )
