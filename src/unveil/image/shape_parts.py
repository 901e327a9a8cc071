"""The network and the noise schedule that the shape of an image model describes."""

from dataclasses import replace

import torch

from unveil.image.networks.dit import DiT, DiTShape
from unveil.image.networks.unet2d import UNet2d, UNet2dShape
from unveil.image.shape import ImageShape
from unveil.process.schedule import Flow, Karras, Schedule, cosine_betas, linear_betas, tabulated


def image_network(shape: ImageShape, **options: object) -> UNet2d | DiT:
    """The untrained network of a shape. The last row of the label embedding is that of the unconditional
    model.

    Args:
        options: fields of `UNet2dShape` in which U-Nets of other releases differ.
    """
    concat = shape.channels if shape.upsample > 1 and not shape.beside else shape.concat
    level = shape.beside == "lowres" and shape.noise_levels > 0
    if shape.trunk == "dit":
        transformer = DiTShape(
            shape.channels,
            shape.stem,
            shape.width,
            shape.depth,
            shape.heads,
            labels=shape.classes + 1 if shape.classes else 0,
            learned_variance=shape.learned_variance,
            concat=concat,
            context=shape.context,
            vector=shape.pooled,
            level=level,
        )
        return DiT(replace(transformer, **options))
    network = UNet2dShape(
        shape.channels,
        shape.width,
        shape.multiples,
        shape.blocks,
        shape.levels,
        shape.head_width,
        shape.classes + 1 if shape.classes else 0,
        scale_shift=shape.scale_shift,
        big_gan=shape.big_gan,
        dropout=shape.dropout,
        learned_variance=shape.learned_variance,
        stem=shape.stem,
        groups=shape.groups,
        concat=concat,
        context=shape.context,
        vector=shape.pooled,
        level=level,
        efficient=shape.efficient,
        embedding=shape.embedding,
    )
    return UNet2d(replace(network, **options))


def image_schedule(shape: ImageShape) -> Schedule:
    """The schedule by its name.

    The linear table of T steps has betas from 0.1 / T to 20 / T, DDPM's at T = 1000, so that any T ends in
    noise, as in Improved DDPM's code."""
    if shape.schedule == "flow":
        return Flow()
    if shape.schedule == "karras":
        return Karras()
    if shape.schedule == "cosine":
        return tabulated(cosine_betas(shape.diffusion_steps))
    if shape.schedule == "betas":
        return tabulated(torch.tensor(shape.betas, dtype=torch.float64, device="cpu"))
    return tabulated(
        linear_betas(shape.diffusion_steps, 0.1 / shape.diffusion_steps, 20.0 / shape.diffusion_steps)
    )
