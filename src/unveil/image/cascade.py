"""Cascades: pictures of one model, enlarged by an upsampler.

Ho et al. 2022, "Cascaded diffusion models"; Saharia et al. 2022 (Imagen), section 2.4; Nichol et al. 2021
(GLIDE).
"""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from unveil.image.concat import noised
from unveil.image.generation import Generated, generate, noise_by_sample
from unveil.image.given import Given
from unveil.image.model import ImageModel
from unveil.image.settings import ImageSettings
from unveil.sampling.noise import normal_like

LOW_NOISE = 2**33
"""Added to the seed of an image for the noise of its low-resolution image."""
AGAIN = 2**34
"""Added to the seed of an image for the noise that its enlargement begins with."""


def check_stage(upsampler: ImageModel, picture: tuple[int, int, int]) -> None:
    """Refuse an upsampler that does not enlarge pictures of this shape.

    Args:
        picture: (colours, height, width) in pixels.
    Raises:
        ValueError: it enlarges others, or it is none.
    """
    if upsampler.shape.upsample == 1:
        raise ValueError("it is no upsampler (`upsample`)")
    if upsampler.latent is not None and upsampler.shape.beside != "lowres":
        raise ValueError("it enlarges codes of a latent space; train one with `concat=lowres`")
    if upsampler.low != picture:
        needed, has = (" x ".join(map(str, one)) for one in (upsampler.low, picture))
        raise ValueError(f"it enlarges images of {needed}, and these have {has}")


def with_level(low: Tensor, level: int, upsampler: ImageModel, seed: int) -> tuple[Tensor, Tensor | None]:
    """Low-resolution images with noise of one level, each with random numbers of its own, and their levels;
    unchanged, and None, for an upsampler that knows no levels (conditioning augmentation at sampling).

    Args:
        low: (N, C, s, s) in -1 .. 1.
        level: 0 .. `noise_levels` of its shape; larger ones become the largest.
        seed: image i uses seed + i.
    """
    known = upsampler.shape.noise_levels if upsampler.shape.beside == "lowres" else 0
    if not known:
        return low, None
    levels = torch.full((len(low),), min(level, known), device="cpu")
    drawn = normal_like(low, noise_by_sample(seed + LOW_NOISE, len(low))(slice(0, len(low))))
    return noised(low, levels, drawn), levels


def enlarge(
    upsampler: ImageModel,
    pixels: Tensor,
    settings: ImageSettings,
    seed: int = 0,
    batch: int = 64,
    *,
    level: int = 0,
    prompts: Sequence[str] | None = None,
    labels: Tensor | None = None,
) -> Generated:
    """Enlarge pictures by an upsampler: the next stage of a cascade.

    Args:
        pixels: (N, C, s, s) uint8.
        settings: of the upsampler; a negative prompt is left out if it reads no prompts.
        seed: image i uses seed + i.
        level: noise of the small images, as an entry of DDPM's table of 1000, for upsamplers that were
            trained with noise; more hides flaws of the small images.
        prompts, labels: of the images; left out for an upsampler that was trained without.
    Raises:
        ValueError: as `check_stage` and `generate`.
    """
    check_stage(upsampler, (pixels.shape[1], pixels.shape[2], pixels.shape[3]))
    low, levels = with_level(upsampler.normalized(pixels), level, upsampler, seed)
    reads, knows = upsampler.text is not None, bool(upsampler.shape.classes)
    if not reads and isinstance(settings.negative, str):
        settings = replace(settings, negative=-1)
    if not reads and not knows:
        settings = replace(settings, scale=1.0, negative=-1)
    given = Given(low=low, level=levels, prompts=prompts if reads else None)
    classes = labels if knows else None
    return generate(upsampler, classes, len(pixels), settings, seed + AGAIN, batch, given=given)
