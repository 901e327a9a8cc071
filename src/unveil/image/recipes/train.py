"""`unveil train image`, and image models from checkpoints."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unveil.image.recipes.load import image_model, shape_of, stored_config
from unveil.runs.flags import flat

if TYPE_CHECKING:
    import torch

    from unveil.image.data.images import ImageSet
    from unveil.image.recipes.classifier_config import TrainClassifier
    from unveil.image.recipes.config import TrainImage
    from unveil.image.recipes.training_flags import UNetFlags
    from unveil.image.training import ImageBatch
    from unveil.runs.progress import Progress

LOWER = "lower --batch-size and raise --accumulate as much, or lower --width"


def images_of(config: Mapping[str, Any], source: str | None = None) -> tuple[ImageSet, ImageSet]:
    """The images to train on and the held-out ones, as a run's config says: the data's own test images, or a
    fraction held out.

    Args:
        config: config.json of a run, whose classes keep their numbers.
        source: other data than those of the config.
    """
    from dataclasses import replace

    from unveil.errors import UnveilError
    from unveil.image.data.captions import read_captions
    from unveil.image.data.images import alike, as_numbered, split
    from unveil.image.data.reading import Reading
    from unveil.image.data.source import has_test, read_images

    data = config["data"] if source is None else source
    reading = Reading(config["asked_size"], config["fit"], config["background"], config["skip_corrupt"])
    images = as_numbered(read_images(data, reading, tuple(config["styles"])), config.get("names", ()))
    if config.get("captions"):
        images = read_captions(images, str(config["captions"]))
    if not has_test(data):
        return split(images, config["hold_out"], in_place=True)
    test = read_images(data, reading, tuple(config["styles"]), test=True)
    try:
        return images, alike(test, images)
    except UnveilError:
        if config.get("classes", True):
            raise
        return images, alike(replace(test, labels=None, names=()), images)  # the model is unconditional


def report(images: ImageSet, progress: Progress) -> None:
    """Report the files that were left out, and other notes about the images."""
    few = ", ".join(images.skipped[:3])
    left = [f"left out {len(images.skipped)} files that cannot be read: {few}"] if images.skipped else []
    for note in (*left, *images.notes):
        progress(note, 1, 1, {})


def train_image(config: TrainImage, progress: Progress) -> Path:
    """Train an `ImageModel`; returns the run folder."""
    from functools import partial

    import torch

    from unveil.image.data.images import RandomImages
    from unveil.image.random_latents import RandomLatents
    from unveil.image.recipes.config import TrainImage, resolved
    from unveil.image.recipes.latents import codes_of, new_latents
    from unveil.image.recipes.previews import sampler
    from unveil.image.recipes.prompts import new_text
    from unveil.image.recipes.start import as_begun, load_start, taken_over
    from unveil.image.training import image_batches, image_loss
    from unveil.process.importance import LossHistory
    from unveil.runs.device import enough_memory, find_device
    from unveil.runs.resuming import check_folder
    from unveil.runs.training import Task, as_json, run_task

    config, before = as_begun(config)
    check_loss(resolved(config, 1, 0))
    check_folder(config.run.folder, config.run.resume)
    device = find_device(config.run.device)
    images, fields = read_for(config, progress)
    flags, (run, resume) = config, (config.run.folder, config.run.resume)
    latents, coded = new_latents(config.latent, run, resume, config.run.device)
    sample = images.pixels.shape[1:] if latents is None else latents.shape_of(*images.pixels.shape[1:])
    config = resolved(config, *sample[:2])
    torch.manual_seed(config.run.seed)  # initial weights
    text, worded = new_text(config.text, images.captions, run, resume)
    described = as_json(fields | flat(config) | _learned(config, images, sample) | worded | coded)
    if config.start_from:
        described = as_json(taken_over(flags, described, before))
    shape = shape_of(described)
    model = image_model(described, text, latents)
    if config.start_from and before is None:
        load_start(model, config.start_from)
    bound = config.loss == "vlb"
    importance = bound if config.importance is None else config.importance
    history = LossHistory(shape.diffusion_steps) if importance else None
    size, flip = config.run.batch_size, config.images.flip
    random = RandomImages(images, flip)
    if latents is not None:
        random = RandomLatents(codes_of(latents, images, run, flip, progress), random)

    def draws(count: int) -> Callable[[torch.Generator], ImageBatch]:
        return image_batches(random, shape, count, config.label_drop, history)

    loss = partial(image_loss, gamma=config.min_snr or 0.0, bound=bound, history=history)
    memory, lower = None if history is None else history.memory, "--size or --width"
    task = Task(model, draws(size), loss, {}, memory, draws=draws, size=size, lower=lower)
    on_sample = sampler(described, random, device, run, progress)
    with enough_memory(LOWER):
        run_task(task, config.run, device, run, described, TrainImage(), progress, on_sample)
    return run


def read_for(config: TrainImage | TrainClassifier, progress: Progress) -> tuple[ImageSet, dict[str, Any]]:
    """The images to train on, and the fields of config.json that the flags give."""
    from unveil.runs.device import enough_memory

    names = stored_config(config.run.folder).get("names") if config.run.resume else ()
    fields = flat(config) | {"asked_size": config.images.reading.size}
    fields["names"] = tuple(map(str, names)) if isinstance(names, list) else ()
    with enough_memory("give --size, with --fit resize, or fewer images"):
        images, _ = images_of(fields)
    report(images, progress)
    return images, fields


def _learned(config: TrainImage, images: ImageSet, sample: tuple[int, ...]) -> dict[str, Any]:
    """The fields of config.json that follow from the images.

    Args:
        sample: the shape (C, H, W) of what the network sees: of an image, or of its code.
    Raises:
        UnveilError: `classes` without classes in the data, or the network cannot learn from such patches.
    """
    from unveil.errors import UnveilError

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
    return of_images(config, images, sample) | {
        "recipe": "image",
        "names": images.names if config.classes else (),
        "null": config.classes and config.label_drop > 0.0,
    }


def of_images(
    config: TrainImage | TrainClassifier, images: ImageSet, sample: tuple[int, ...]
) -> dict[str, Any]:
    """The fields of config.json that both trainings learn from their images; `sample` as in `_learned`."""
    from unveil.image.recipes import classifier_config as classifier
    from unveil.image.recipes.config import TRAIN_PRESETS, TrainImage

    presets = TRAIN_PRESETS if isinstance(config, TrainImage) else classifier.TRAIN_PRESETS
    channels, _, size = sample
    return {
        "size": size,
        "channels": channels,
        "attention": attention_of(config.network, presets[config.preset].network.attention, size),
        "images": len(images),
        "skipped": images.skipped,
    }


def attention_of(network: UNetFlags, default: tuple[int, ...], size: int) -> tuple[int, ...]:
    """Sides with attention: those of the flags, but no sides of the preset if none fits the images."""
    from unveil.image.networks.unet2d import sides_of

    fits = set(network.attention) & set(sides_of(size, network.stem, len(network.multiples)))
    return network.attention if fits or network.attention != default else ()


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
