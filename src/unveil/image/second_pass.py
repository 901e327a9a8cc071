"""Images in two passes: at the size of the training, then enlarged and changed at a larger size.

What A1111's web UI calls "Hires. fix".
"""

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor
from torch.nn import functional as F

from unveil.image.data.picture_files import resized
from unveil.image.generation import Generated, generate
from unveil.image.given import NOTHING, Given
from unveil.image.high_resolution import HighResolution, Upscaler
from unveil.image.model import ImageModel
from unveil.image.settings import ImageSettings
from unveil.sampling.noise import Noise

OF_CODES: dict[Upscaler, tuple[str, bool]] = {
    "latent": ("bilinear", False),
    "latent_antialiased": ("bilinear", True),
    "latent_bicubic": ("bicubic", False),
    "latent_bicubic_antialiased": ("bicubic", True),
    "latent_nearest": ("nearest", False),
}
"""Interpolation of codes, and whether it is antialiased, which matters where a side becomes smaller only."""


def generate_twice(
    model: ImageModel,
    labels: Tensor | None,
    count: int,
    settings: ImageSettings,
    high: HighResolution,
    generator: Noise | int = None,
    batch: int = 64,
    on_step: Callable[[Tensor, Tensor], object] | None = None,
    noise: tuple[Tensor | None, Tensor | None] = (None, None),
    given: Given = NOTHING,
    *,
    on_batch: Callable[[slice], object] | None = None,
    size: tuple[int, int] | None = None,
) -> Generated:
    """Sample images, enlarge them, noise them, and denoise them at the larger size.

    The second pass does the last `hires_steps` of int(`hires_steps` / `hires_strength`) steps, from images
    noised to the first of their times. Prompts go on: their steps count on from those of the first pass, and
    fractions lie in 1 .. 2.

    Args:
        noise: initial noise of the first pass (count, C, h, w), and that of the second, of the larger size;
            None draws it.
        given: the prompts and the classifier; nothing that has the size of the images.
        size: height and width in pixels of the first pass.

    The others are those of `generate`.

    Raises:
        ValueError: as `generate`, or settings that a second pass cannot follow.
    """
    _check(model, settings, high, given)
    second, total = high.steps_of(settings.steps)
    if model.shape.diffusion_steps < total and model.shape.schedule not in ("flow", "karras"):
        raise ValueError(
            f"`hires_strength` {high.hires_strength} with {second} steps needs {total} times, but this model "
            f"has {model.shape.diffusion_steps}; give fewer `hires_steps`, or more `hires_strength`"
        )
    if not isinstance(generator, int):  # the second pass draws from the same seeds
        raise ValueError("a second pass needs a seed, a whole number")
    larger = larger_size(model, size, high.hires)
    first = generate(
        model,
        labels,
        count,
        settings,
        generator,
        batch,
        on_step,
        noise[0],
        given,
        on_batch=on_batch,
        size=size,
        finish=_same,
    )
    begin = torch.cat([enlarged(model, x, larger, high.hires_upscaler) for x in first.pixels.split(batch)])
    again = generate(
        model,
        labels,
        count,
        replace(settings, steps=total),
        generator,
        batch,
        on_step,
        noise[1],
        replace(given, begin=begin, last=second, earlier=settings.steps),
        on_batch=on_batch,
        size=larger,
    )
    return Generated(again.pixels, first.calls + again.calls)


def larger_size(model: ImageModel, size: tuple[int, int] | None, factor: float) -> tuple[int, int]:
    """Height and width of the second pass: `factor` times those of the first, down to multiples of the
    model's unit."""
    height, width = size or model.picture[1:]
    unit = model.unit
    return int(height * factor) // unit * unit, int(width * factor) // unit * unit


def enlarged(model: ImageModel, x_0: Tensor, size: tuple[int, int], upscaler: Upscaler) -> Tensor:
    """Samples (B, C, h, w) for pictures of another size (height, width in pixels): their codes are
    interpolated, or their pixels, which are then encoded."""
    if upscaler in OF_CODES:
        mode, antialias = OF_CODES[upscaler]
        return F.interpolate(x_0, size=model.sides_of(size)[1:], mode=mode, antialias=antialias)
    return model.clean(torch.from_numpy(resized(model.pixels(x_0).numpy(), size, upscaler)))


def _same(x: Tensor) -> Tensor:
    return x


def _check(model: ImageModel, settings: ImageSettings, high: HighResolution, given: Given) -> None:
    if high.hires == 1.0:
        raise ValueError("`hires` is the factor of a second pass; give one above 1")
    if settings.respacing:
        raise ValueError("`respacing` chooses all steps, and a second pass takes some; give `steps` instead")
    tied = (given.begin, given.known, given.cost, given.low, given.beside)
    if model.shape.upsample > 1 or model.shape.concat or any(it is not None for it in tied):
        raise ValueError("`hires` is for images from noise; leave out `given`, and take a model without maps")
