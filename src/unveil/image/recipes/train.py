"""`unveil train image`, and image models from checkpoints."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from unveil.image.recipes.images import LOWER, of_images, read_for
from unveil.image.recipes.load import image_model, shape_of
from unveil.runs.flags import flat

if TYPE_CHECKING:
    import torch

    from unveil.image.data.images import ImageSet
    from unveil.image.recipes.train_config import TrainImage
    from unveil.image.training import ImageBatch
    from unveil.runs.progress import Progress


def train_image(config: TrainImage, progress: Progress) -> Path:
    """Train an `ImageModel`; returns the run folder."""
    from functools import partial

    import torch

    from unveil.image.data.images import RandomImages
    from unveil.image.latents.random_latents import RandomLatents
    from unveil.image.recipes.concat import concat_fields
    from unveil.image.recipes.embedded import start_embeddings
    from unveil.image.recipes.latents import codes_of
    from unveil.image.recipes.previews import sampler
    from unveil.image.recipes.start import (
        as_begun,
        as_named,
        as_started,
        as_tuned,
        freeze_text,
        load_start,
        start_latents,
        start_text,
        started,
        taken_over,
    )
    from unveil.image.recipes.train_config import TrainImage, check_trunk, resolved
    from unveil.image.training import image_batches, image_loss
    from unveil.process.importance import LossHistory
    from unveil.runs.device import enough_memory
    from unveil.runs.training import Task, as_json, begin, run_task

    config, before = as_begun(as_tuned(config))
    check_loss(resolved(config, 1, 0))
    check_trunk(config)
    device = begin(config.run, config.run.folder)
    images, fields = read_for(config, config.images.reading.size, config.run, progress)
    flags, run, start = config, config.run.folder, started(config, before)
    latents, coded = start_latents(config, start)
    sample = images.pixels.shape[1:] if latents is None else latents.shape_of(*images.pixels.shape[1:])
    config = as_named(resolved(as_started(config, start), *sample[:2]), flags, before)
    torch.manual_seed(config.run.seed)  # initial weights
    text, worded = start_text(config, images.captions, start)
    beside = concat_fields(config, images, sample, latents)
    embeddings, embedded = start_embeddings(config, images, start, progress)
    learned = _learned(config, images, sample) | worded | embedded
    described = as_json(fields | flat(config) | learned | coded | beside)
    if start is not None:
        described = as_json(taken_over(flags, described, before, start))
    shape = shape_of(described)
    model = image_model(described, text, latents)
    if config.start_from and before is None:
        load_start(model, config.start_from)
    if config.run.freeze == "encoder":
        freeze_text(model, config.run.source)
    bound = config.loss == "vlb"
    importance = bound if config.importance is None else config.importance
    history = LossHistory(shape.diffusion_steps) if importance else None
    size, flip = config.run.batch_size, config.images.flip
    random = RandomImages(images, flip)
    if latents is not None:
        random = RandomLatents(codes_of(latents, images, run, flip, progress), random)

    def draws(count: int) -> Callable[[torch.Generator], ImageBatch]:
        drops = config.label_drop, history, embeddings, config.embedding_drop
        return image_batches(random, shape, count, *drops)

    loss = partial(image_loss, gamma=config.min_snr or 0.0, bound=bound, history=history)
    memory, lower = None if history is None else history.memory, "--size or --width"
    task = Task(model, draws(size), loss, {}, memory, draws=draws, size=size, lower=lower)
    on_sample = sampler(described, random, device, run, progress, embeddings)
    with enough_memory(LOWER):
        run_task(task, config.run, device, run, described, TrainImage(), progress, on_sample)
    return run


def _learned(config: TrainImage, images: ImageSet, sample: tuple[int, ...]) -> dict[str, object]:
    """The fields of config.json that follow from the images.

    Args:
        sample: the shape (C, H, W) of what the network sees: of an image, or of its code.
    Raises:
        UnveilError: `classes` without classes in the data, or the network cannot learn from such patches.
    """
    from unveil.errors import UnveilError
    from unveil.image.recipes.train_config import TRAIN_PRESETS

    if config.classes and images.labels is None:
        why = images.unlabelled or f"{config.images.data} has no classes"
        raise UnveilError(f"{why}; leave `classes` out")
    stem, width = config.network.stem, config.network.width
    numbers = stem**2 * sample[0]
    if numbers >= width and config.predicts != "x0" and not config.start_from:
        raise UnveilError(
            f"`stem` {stem} makes patches of {numbers} numbers, and `width` {width} channels cannot pass on "
            f"the noise that {config.predicts} needs: such models make noise; take --predicts x0 --min-snr "
            "5, a smaller `stem` or a larger `width`"
        )
    usual, trunk = TRAIN_PRESETS[config.preset].network, config.transformer.trunk
    return of_images(config.network, usual, images, sample, trunk) | {
        "recipe": "image",
        "names": images.names if config.classes else (),
        "null": config.classes and config.label_drop > 0.0,
    }


def check_loss(config: TrainImage) -> None:
    """Refuse losses that do not fit the diffusion.

    Raises:
        ValueError: the field, and what is needed.
    """
    if config.loss in ("simple", "hybrid") and (config.loss == "hybrid") != config.learned_variance:
        fits = "hybrid or vlb" if config.learned_variance else "simple or vlb"
        raise ValueError(
            f"`loss={config.loss}` with `learned_variance={config.learned_variance}`: take {fits}"
        )
    if (config.loss == "vlb" or config.importance) and config.schedule not in ("linear", "cosine"):
        raise ValueError(
            "`loss=vlb` and `importance` need a table of steps (methods ddpm, iddpm and v), not "
            f"`schedule={config.schedule}`"
        )
    if config.loss == "vlb" and config.min_snr:
        raise ValueError("`min_snr` weights the squared error, which `loss=vlb` does not have")
