"""The upsamplers of `unveil sample image --upsampler`: found, checked, and used after the first model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from unveil.errors import UnveilError
from unveil.image.recipes.load import Opened, load_models, open_image

if TYPE_CHECKING:
    from torch import Tensor

    from unveil.image.generation import Generated
    from unveil.image.model import ImageModel
    from unveil.image.recipes.config import SampleImage
    from unveil.image.settings import ImageSettings


def open_upsamplers(config: SampleImage) -> list[Opened]:
    """The checkpoints of the upsamplers.

    Raises:
        UnveilError: no such checkpoint, or damaged.
    """
    return [open_image(path) for path in config.cascade.upsampler]


def load_upsamplers(config: SampleImage, opened: Sequence[Opened], base: ImageModel) -> list[ImageModel]:
    """The upsamplers, each of which enlarges what the one before it makes.

    Raises:
        UnveilError: sizes that do not fit.
        ValueError: a noise level that none of them knows.
    """
    from unveil.image.cascade import check_stage

    models: list[ImageModel] = []
    for path, one in zip(config.cascade.upsampler, opened, strict=True):
        model = load_models(one, None, config.job.device)[0]
        try:
            check_stage(model, (models[-1] if models else base).picture)
        except ValueError as error:
            raise UnveilError(f"{path}: {error}") from None
        models.append(model)
    known, level = max([0, *(model.shape.noise_levels for model in models)]), config.noise_level
    if models and level > known and level != type(config).noise_level:
        known_levels = f"0 .. {known}" if known else "none"
        raise ValueError(f"`noise_level` {level}: the levels that `upsampler` knows are {known_levels}")
    return models


def cascaded(
    config: SampleImage,
    made: Generated,
    upsamplers: Sequence[ImageModel],
    settings: ImageSettings,
    prompts: Sequence[str] | None,
    labels: Tensor | None,
) -> Generated:
    """Images, enlarged by each upsampler in turn, and the network calls of all stages."""
    from unveil.image.cascade import enlarge

    cascade, settings = config.cascade, replace(settings, rescale=0.0, respacing="")
    for stage, model in enumerate(upsamplers):
        larger = enlarge(
            model,
            made.pixels,
            replace(settings, steps=cascade.upsampler_steps, scale=cascade.upsampler_scale),
            config.job.seed + stage,
            config.batch_size,
            level=config.noise_level,
            prompts=prompts,
            labels=labels,
        )
        made = larger._replace(calls=made.calls + larger.calls)
    return made
